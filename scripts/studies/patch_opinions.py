"""Do patches with opinions of their own say where an image is bad, and is the image judged as well as before?

    python scripts/studies/patch_opinions.py

The shipped triq_small learns on, on the synthetic ladder, by OpinionLoss, by PatchOpinionLoss, and by that with
MixToken. Printed over the seeds: SRCC of whole images with their opinion (photographs of B100 at severities between the
steps), and for photographs of which one half was distorted, SRCC and PLCC of the patches' scores with the true local
quality, one minus the share of the patch that is distorted times the severity. Without patches, each patch is cut out
and judged as an image of its own.
"""

from __future__ import annotations

import numpy as np
import torch
from study import note, parser, show, trained

from restore.data.ratings.synthetic import DEFAULT_KINDS, SyntheticQualityDataset, distort
from restore.images import list_images, read_image, to_tensor
from restore.inference.judging import judgements
from restore.metrics.correlation import correlations
from restore.quality import QualityModel, load_quality

VARIANTS = {
    "OpinionLoss": ["train.quality_opt={type: OpinionLoss}"],
    "PatchOpinionLoss": ["train.quality_opt={type: PatchOpinionLoss}", "network_g.patches=true"],
    "with mix_tokens 0.5": ["train.quality_opt={type: PatchOpinionLoss, mix_tokens: 0.5}", "network_g.patches=true"],
}
SIDE_PX, PATCH_PX = 192, 32


def main() -> None:
    """Train, measure and print."""
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--iterations", type=int, default=200)
    made.add_argument("--images", type=int, default=12)
    arguments = made.parse_args()
    data, n = arguments.data, arguments.iterations
    common = [
        f"datasets.train.dataroot_gt=[{data}/train/photos, {data}/train/bsds400]",
        "datasets.val=~",
        "datasets.test=~",
        "val=~",
        "datasets.train.batch_size_per_gpu=12",
        "path.pretrain_network_g=triq_small",
        "path.strict_load_g=false",  # the layer that judges patches is new
        f"train.total_iter={n}",
        "train.warmup_iter=20",
        "train.optim_g.lr=5e-4",
        f"train.scheduler.periods=[{n}]",
        f"logger.save_checkpoint_freq={n}",
        "logger.save_best=~",
    ]
    photographs = data / "benchmark/BSD100/HR"
    whole = SyntheticQualityDataset(
        name="between", dataroot_gt=str(photographs), max_images=arguments.images, num_levels=5, between=True
    )
    rows = {name: {"SRCC of images": [], "SRCC of patches": [], "PLCC of patches": []} for name in VARIANTS}
    for seed in arguments.seeds:
        for number, (name, overrides) in enumerate(VARIANTS.items()):
            weights = trained(
                "options/train_triq_small_synthetic.yml",
                f"patch_opinions_{number}_{seed}",
                [*common, *overrides],
                arguments.output,
                seed=seed,
            )
            model = load_quality(weights)
            scores, opinions = zip(*((each.score, each.opinion) for each in judgements(model, whole)), strict=True)
            local = correlations(*patches(model, list_images(photographs)[:: 100 // arguments.images]))
            found = (correlations(scores, opinions)["srcc"], local["srcc"], local["plcc"])
            note(name, seed, *found)
            for values, value in zip(rows[name].values(), found, strict=True):
                values.append(value)
    show(rows)


def patches(model: QualityModel, files: list) -> tuple[list[float], list[float]]:
    """Scores and true qualities of the patches of half-distorted photographs, each kind once."""
    scores, truths, draw = [], [], np.random.default_rng(0)
    for file in files:
        pixels = np.ascontiguousarray(read_image(file).pixels[:SIDE_PX, :SIDE_PX, :3])
        for kind in DEFAULT_KINDS:
            severity = draw.uniform(0.2, 1)
            bad = np.zeros(pixels.shape[:2], bool)
            half = pixels.shape[0] // 2
            bad[:half] = True
            bad = np.ascontiguousarray(np.rot90(bad, draw.integers(4)))
            mixed = np.where(bad[..., None], distort(pixels, kind, severity, seed=1), pixels)
            image = to_tensor(mixed)
            if model.patches:
                score = model.judge_patches(image)[0]
            else:
                cells = image.unfold(2, PATCH_PX, PATCH_PX).unfold(3, PATCH_PX, PATCH_PX)[0]
                size = tuple(cells.shape[1:3])
                score = model.judge(cells.permute(1, 2, 0, 3, 4).flatten(0, 1)).view(size)
            bad_share = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(bad)[None, None].float(), score.shape)
            truths += (1 - severity * bad_share).flatten().tolist()
            scores += score.flatten().tolist()
    return scores, truths


if __name__ == "__main__":
    main()
