"""Does the observation that began it all hold: MobileNetV3-Large 0.89, EfficientViT 0.58, on the same small set?

Question: how large is the difference in accuracy between MobileNetV3 and EfficientViT (and MobileViT) on eight classes
with few labels, from scratch and pretrained, and how stable is it? The published figures were read off a curve over
epochs 70 to 90.
Runs: the three backbones, from scratch and pretrained, on the same images for the same 90 epochs. Only the learning
rate differs in smoke and laptop: from scratch each backbone has its tuned one, and all pretrained ones have the same.
The curve is drawn on the hold-out, and nothing is chosen by it. The test split is read once, after the last step.
Desk asks what the claim needs to be true. MobileNetV3 and EfficientViT are settled under the plain recipe, each with
the learning rate and budget that its own hold-out prefers, and stand beside the same pair after 60 epochs. If a gap of
the 60 epochs were gone once both are settled, the observation would need a training that stops before EfficientViT has
learnt.
Expected: a gap between the two from scratch, and, pretrained, high accuracy of both with a small gap.
The answer would be different if no gap from scratch were shown, or with one that stays when both are pretrained. Then
these studies would not support an effect of the architecture. What caused the observation they could not say.
Smoke and laptop: micro sizes of the three on Fashion-MNIST (ten classes, 28 px) with fewer epochs (4 and 60). Their
pretraining is SimMIM on the images of the pool, without labels. They show the method and not the published numbers, in
half an hour on 2 slow cores.
Desk: the micro sizes on Fashion-MNIST, or with --data FOLDER --image-size 64 --sizes N --tune on your own photographs.
Full: Oxford-IIIT Pet at 224 px, 37 breeds, the published sizes, 90 epochs and ImageNet's weights.
Run it: make sweep-seed-claim [PROFILE=smoke|laptop|desk|full]
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bias_lab.definition import Experiment, Run, choose_profile, grid, run_id

FINETUNE_RATE = 1e-3  # learning rate of the pretrained rows, and in `full` of the rows from scratch too


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How big a profile is."""

    one: Run  # the run that all others are copies of
    epochs: int
    seeds: tuple[int, ...]  # also the draws
    backbones: tuple[str, ...] = ("mobilenetv3_micro", "efficientvit_micro", "mobilevit_micro")
    pretraining: Mapping[str, Any] | None = None  # fields of the pretraining
    weights: bool = False  # whether ImageNet's weights take its place
    settled: bool = False  # whether every backbone from scratch is settled besides


SIMMIM = dict(regime="simmim", source="pool", mask_ratio=0.6, learning_rate=1e-3, batch_size=64)
MICRO = Run(dataset="fashion_mnist_12k", backbone="mobilenetv3_micro", size=300, batch_size=32, monitor=20, blocks=3)

PROFILES = {
    "smoke": Scale(
        one=replace(MICRO, size=80, batch_size=16, monitor=4),
        epochs=4,
        seeds=(0, 1),
        pretraining=SIMMIM | dict(samples_seen=320),
    ),
    "laptop": Scale(one=MICRO, epochs=60, seeds=(0, 1, 2), pretraining=SIMMIM | dict(samples_seen=32_000)),
    "desk": Scale(
        one=replace(MICRO, optimizer="muon"),
        epochs=60,
        seeds=(0, 1, 2),
        backbones=("mobilenetv3_micro", "efficientvit_micro"),
        settled=True,
    ),
    "full": Scale(
        one=Run(
            dataset="oxford_pet",
            backbone="mobilenetv3_large_100",
            size=2900,
            image_size=224,
            batch_size=64,
            monitor=90,
            resized_crop=0.3,
            learning_rate=FINETUNE_RATE,
        ),
        epochs=90,
        seeds=(0, 1, 2),
        backbones=("mobilenetv3_large_100", "efficientvit_b1", "mobilevit_xs"),
        weights=True,
    ),
}


def experiment(profile: str) -> Experiment:
    scale = choose_profile(PROFILES, profile)
    one = replace(scale.one, samples_seen=scale.epochs * scale.one.size)
    pairs = tuple((seed, seed) for seed in scale.seeds)
    runs: list[Run] = []
    for backbone in scale.backbones:
        scratch = replace(one, backbone=backbone)
        if scale.settled:
            runs += grid(replace(scratch, samples_seen=None, monitor=0), replicate=pairs)
        runs += [*pretraining(scratch, scale), *grid(scratch, replicate=pairs)]
        pretrained = start(scratch, scale)
        runs += grid(replace(pretrained, learning_rate=FINETUNE_RATE), replicate=pairs) if pretrained else ()
    return Experiment(
        question="MobileNetV3 0.89, EfficientViT 0.58 on the same small set: does it hold, pretrained too?",
        note="Pretrained rows are given one pretraining." if scale.pretraining else "",
        runs=tuple(runs),
    )


def pretraining(scratch: Run, scale: Scale) -> tuple[Run, ...]:
    """Return the pretraining of a backbone, or none."""
    if scale.pretraining is None:
        return ()
    return (Run(dataset=scratch.dataset, backbone=scratch.backbone, task="pretrain", **scale.pretraining),)


def start(scratch: Run, scale: Scale) -> Run | None:
    """Return the run after the pretraining or from ImageNet's weights, or None where the profile has neither."""
    if scale.weights:
        return replace(scratch, regime="weights", weights=scratch.backbone, source=scratch.backbone)
    for before in pretraining(scratch, scale):
        return replace(scratch, regime=before.regime, source=before.source, pretraining=run_id(before))
    return None
