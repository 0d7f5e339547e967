"""`val`: validation while training, and what a test measures and writes."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, NonNegativeInt, PositiveFloat, PositiveInt

from restore.options.schema.section import Block, Blocks, Name, Section

__all__ = ["ValOptions"]


class ValOptions(Section):
    """Validation while training, and what a test measures and writes."""

    val_freq: PositiveInt | None = None
    """Iterations between two validations; null: none while training."""
    save_img: bool = False
    """Whether to write the restored images to visualization/."""
    suffix: Annotated[Name | None, BeforeValidator(lambda given: None if given == "" else given)] = None
    """Ending of the names of restored images (IMG_SUFFIX.png); null or '': the name of the run."""
    pbar: bool = False
    """Whether to show a progress bar."""
    metrics: Annotated[dict[Name, Block], Blocks] = {}
    """Metrics by any name: {type: calculate_psnr, crop_border: 4, test_y_channel: true, better: higher}."""
    window_size: NonNegativeInt | None = None
    """Restormer: pad images to a multiple of this. Here every network knows its own multiple (runtime.padding)."""
    max_minibatch: PositiveInt | None = None
    """Restormer, NAFNet: tiles or images that go through the network at once; understood as runtime.tile_batch."""
    grids: bool | None = None
    """NAFNet: cut images into crops of crop_size_h x crop_size_w; understood as runtime.tile."""
    crop_size_h: PositiveInt | None = None
    """NAFNet: height of a crop in input pixels."""
    crop_size_w: PositiveInt | None = None
    """NAFNet: width of a crop in input pixels."""
    crop_size_h_ratio: PositiveFloat | None = None
    """NAFNet: height of a crop as a part of the image's; here runtime.tile: auto does better."""
    crop_size_w_ratio: PositiveFloat | None = None
    """NAFNet: width of a crop as a part of the image's; here runtime.tile: auto does better."""
    trans_num: PositiveInt | None = None
    """NAFSSR: number of flips to average over; understood as runtime.self_ensemble where it is above 1."""
    selfensemble_testing: bool | None = None
    """ART, CAT, MambaIR: understood as runtime.self_ensemble."""
    use_chop: bool | None = None
    """CAT, DAT, HiT-SR, RGT: whether a test cuts images into parts; here runtime.tile: auto does so as needed."""
    patchwise_testing: bool | None = None
    """ART, MambaIR: the same."""
    rgb2bgr: bool | None = None
    """Restormer, NAFNet: channel order given to metrics. Here metrics see RGB and know it: no effect."""
    use_image: bool | None = None
    """Restormer, NAFNet: whether metrics see rounded images instead of tensors; here each metric says itself."""
