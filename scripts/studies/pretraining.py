"""Does an encoder that was pre-trained on images alone need fewer labels, or fewer iterations?

    python scripts/studies/pretraining.py judge
    python scripts/studies/pretraining.py restorer

An encoder of the ConvNeXt V2 kind is pre-trained by masked patches (MaskedPretraining) and by telling images apart
(InstanceDiscrimination), each once, or not at all. `judge`: TRIQ then learns the synthetic ladder from a tenth of the
photographs; printed over the seeds is SRCC on photographs of B100 at severities between the steps. `restorer`: a U-Net
on the encoder then learns to take off noise of sigma 25 from 100 photographs; printed is the PSNR on Set5 after each
fifth of the iterations. Pre-training sees photographs without labels: for `judge`, all of them where patches are hidden
and the tenth where images are told apart; for `restorer`, the same 100.
"""

from __future__ import annotations

from pathlib import Path

from study import note, parser, show, trained

from restore.data.ratings.synthetic import DEFAULT_KINDS, SyntheticQualityDataset
from restore.images import list_images
from restore.inference.judging import judgements
from restore.metrics.correlation import correlations
from restore.quality import load_quality
from restore.training.history import HISTORY, read_history

ENCODER = "{type: timm, name: convnextv2_atto, model_args: {dims: [16, 32, 64, 64], depths: [1, 1, 2, 1]}}"
KINDS = {"from scratch": None, "masked": "masked", "instances": "instance"}
OBJECTIVES = {
    "masked": ("MaskedPretraining", "MaskedQualityPretraining", "masked_opt={type: MaskedPatchLoss}"),
    "instance": ("InstanceDiscrimination", "QualityInstanceDiscrimination", "instance_opt={type: InstanceLoss}"),
}
QUIET = ["datasets.val=~", "datasets.test=~", "val=~", "logger.save_best=~", "train.warmup_iter=-1"]


def main() -> None:
    """Train, measure and print."""
    made = parser(__doc__.splitlines()[0])
    made.add_argument("what", choices=("judge", "restorer"))
    made.add_argument("--pretraining", type=int, default=1000, help="iterations of pre-training")
    made.add_argument("--iterations", type=int, default=500, help="iterations of the training that follows")
    made.add_argument("--kinds", nargs="+", default=list(DEFAULT_KINDS), help="distortions that a judge learns")
    arguments = made.parse_args()
    (judge if arguments.what == "judge" else restorer)(arguments)


def judge(arguments) -> None:
    """SRCC of TRIQ."""
    option_file, data = "options/train_triq_small_synthetic.yml", arguments.data
    photos = sorted(list_images(data / "train/photos"))
    few = linked(arguments.output / "a_tenth", photos[::10])
    common = [
        *QUIET,
        f"network_g.encoder={ENCODER}",
        "datasets.train.crop_px=64",
        "datasets.train.batch_size_per_gpu=16",
        f"datasets.train.kinds=[{', '.join(arguments.kinds)}]",
    ]
    whole = SyntheticQualityDataset(
        name="between",
        dataroot_gt=str(data / "benchmark/BSD100/HR"),
        max_images=10,
        kinds=arguments.kinds,
        num_levels=5,
        between=True,
    )
    rows, lengths = {name: {"SRCC": []} for name in KINDS}, f"{arguments.pretraining}_{arguments.iterations}"
    for seed in arguments.seeds:
        for name, kind in KINDS.items():
            start = []
            if kind:
                _, objective, loss = OBJECTIVES[kind]
                settings = [*common, f"model_type={objective}", "train.quality_opt=~", f"train.{loss}"]
                seen = few if kind == "instance" else data / "train/photos"
                settings += [f"datasets.train.dataroot_gt={seen}", *length(arguments.pretraining)]
                weights = trained(
                    option_file, f"judge_{kind}_{arguments.pretraining}", settings, arguments.output, seed=0
                )
                start = [f"path.pretrain_network_g={weights}"]
            settings = [*common, *start, f"datasets.train.dataroot_gt={few}", *length(arguments.iterations)]
            weights = trained(
                option_file, f"judge_after_{kind}_{lengths}_{seed}", settings, arguments.output, seed=seed
            )
            scores, opinions = zip(
                *((each.score, each.opinion) for each in judgements(load_quality(weights), whole)), strict=True
            )
            rows[name]["SRCC"].append(correlations(scores, opinions)["srcc"])
            note(name, seed, rows[name]["SRCC"][-1])
    show(rows)


def restorer(arguments) -> None:
    """PSNR of a U-Net while it learns."""
    option_file, data, n = "options/train_sweep_denoise_25.yml", arguments.data, arguments.iterations
    if n % 5:
        raise SystemExit(f"--iterations is {n}: give a multiple of 5, after each fifth of which PSNR is measured")
    photos = linked(arguments.output / "a_hundred", sorted(list_images(data / "train/photos"))[:100])
    network = f"network_g={{type: UNetRestorer, encoder: {ENCODER}, width: 16, max_width: 64, depth: 1}}"
    common = [network, f"datasets.train.dataroot_gt={photos}", "datasets.train.gt_size=64", "train.warmup_iter=-1"]
    quiet = ["datasets.val=~", "val=~"]
    validated = [f"datasets.val.dataroot_gt={data}/benchmark/Set5/HR", f"val.val_freq={n // 5}"]
    rows = {name: {f"{n * part // 5} iterations": [] for part in range(1, 6)} for name in KINDS}
    lengths = f"{arguments.pretraining}_{n}"
    for seed in arguments.seeds:
        for name, kind in KINDS.items():
            start = []
            if kind:
                objective, _, loss = OBJECTIVES[kind]
                settings = [*common, *quiet, f"model_type={objective}", "train.pixel_opt=~", f"train.{loss}"]
                settings += length(arguments.pretraining)
                weights = trained(
                    option_file, f"restorer_{kind}_{arguments.pretraining}", settings, arguments.output, seed=0
                )
                start = [f"path.pretrain_network_g={weights}"]
            settings = [*common, *start, *validated, *length(n)]
            weights = trained(
                option_file, f"restorer_after_{kind}_{lengths}_{seed}", settings, arguments.output, seed=seed
            )
            history = read_history(weights.parents[1] / HISTORY).values()
            found = [value for row in history for key, value in row.items() if key.endswith("psnr")]
            note(name, seed, *found)
            for values, value in zip(rows[name].values(), found, strict=True):
                values.append(value)
    show(rows, digits=2)


def length(iterations: int) -> list[str]:
    """Overrides for a training of so many iterations."""
    return [
        f"train.total_iter={iterations}",
        f"train.scheduler.periods=[{iterations}]",
        f"logger.save_checkpoint_freq={iterations}",
    ]


def linked(folder: Path, files: list[Path]) -> Path:
    """A folder of links to files."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        link = folder / file.name
        if not link.exists():
            link.symlink_to(file.resolve())
    return folder.resolve()


if __name__ == "__main__":
    main()
