"""Which pretraining wins back how much of a plain ViT's shortfall, and is it more than a CNN has without any?

Question: the shortfall is the accuracy of ResNet from scratch minus that of the plain ViT from scratch, at the same
number of labelled images, paired over replicates. The recovery of a regime is the share of it that the ViT wins back.
How large is it for each regime, what does the same regime give the ResNet, and how many images did it see before the
first label?
Runs: a plain ViT and a ResNet of similar size, from scratch and after each regime. `supervised` and `formula` pretrain
with labels on another source, `mae` (ViT alone, it needs patches), `simmim` and `dino` without labels on the pool. All
rows of a backbone are fine-tuned on the same images, for the same images seen.
Expected: pretraining without labels on the target's own images recovers most, and a source unlike the target little.
The ResNet gains less, because it has locality already.
The answer would be different if the interval of a recovery contained 0, or if the ResNet gained as much as the ViT.
Laptop: 40 minutes on 2 slow cores, on Fashion-MNIST. Each regime and backbone has one pretraining of up to 2 minutes of
one core, common to all replicates. What longer pretraining would give is not shown. For DINO, whose student and teacher
see every image through six crops, the two minutes are a hundred steps. `supervised` learns drawn shapes, and `formula`
drawn fractals.
Full: CIFAR-10 and CIFAR-100 with Tiny-ImageNet as the source, a pretraining for each seed and strong augmentation, and
Oxford-IIIT Pet at 224 px with ImageNet's weights. At all 50,000 labels the results can be compared with published ones,
within 1.5 points. A ViT of 2.8 M parameters (the size of vit_mini: width 192, depth 9, 12 heads, MLP of 384) has 93.58
on CIFAR-10 and 73.81 on CIFAR-100, and after self-distillation on the target's images 96.41 and 79.15. Swin, which
`--backbone swin_mini` joins, has 94.46 and 76.87, and on a quarter, half and three quarters of CIFAR-10 83.36, 90.83
and 91.73 (--sizes 12500,25000,37500). It was a larger Swin, so these figures are for orientation. They were published
without intervals, for 100 epochs, batch 128, learning rate 1e-3, weight decay 0.05, 10 epochs of warm-up, AutoAugment
(here TrivialAugment), mixup, cutmix, label smoothing, repeated augmentation and erasing 0.25.
Run it: make sweep-pretraining [PROFILE=smoke|laptop|full]
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bias_lab import catalogue
from bias_lab.definition import Experiment, Run, choose_profile, grid, recipe, run_id

FINETUNE_RATE = 1e-3  # learning rate after a pretraining, and in `full` also from scratch

METHODS: dict[str, dict[str, Any]] = {  # regime → the fields of its pretraining
    "mae": dict(source="pool", learning_rate=2e-3),
    "simmim": dict(source="pool", learning_rate=2e-3, mask_ratio=0.6),
    "dino": dict(source="pool", learning_rate=2.5e-4),
    "supervised": dict(learning_rate=1e-3),
    "formula": dict(source="fractals", learning_rate=1e-3),
}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How big a profile is."""

    datasets: tuple[str, ...] = ("fashion_mnist_12k",)
    source: str = "shapes:position=free"  # of a pretraining whose method has none of its own
    backbones: tuple[str, str] = ("vit_micro", "resnet_micro")
    seen: Mapping[int, int]  # number of labelled images → images seen while fine-tuning
    replicates: tuple[tuple[int, int], ...] = ((0, 0), (1, 1), (2, 2))  # (draw, seed)
    recipe: Mapping[str, Any] = field(default_factory=dict)  # fields of every fine-tuning run
    pretraining: Mapping[str, int]  # regime → images seen
    pretraining_batch: int
    monitor: int = 0  # how many times a pretraining is evaluated by nearest neighbours before its end
    one_a_seed: bool = False  # a pretraining for each seed
    weights: bool = False  # photographs with ImageNet's weights too


PROFILES = {
    "smoke": Scale(
        seen={20: 320},
        replicates=((0, 0), (1, 1)),
        pretraining=dict.fromkeys(METHODS, 256),
        pretraining_batch=32,
    ),
    "laptop": Scale(
        seen={100: 16_000, 500: 16_000},
        pretraining=dict(mae=80_000, simmim=40_000, dino=12_800, supervised=40_000, formula=40_000),
        pretraining_batch=128,
    ),
    "full": Scale(
        datasets=("cifar10", "cifar100"),
        source="tiny_imagenet",
        backbones=("vit_mini", "resnet_mini"),
        seen={500: 1_280_000, 5000: 2_560_000, 50_000: 5_000_000},  # the last: 100 epochs, as published
        recipe=dict(batch_size=128, learning_rate=1e-3, repeated_augmentation=3, **recipe("strong")),
        pretraining=dict.fromkeys(METHODS, 20_000_000),
        pretraining_batch=512,
        monitor=20,
        one_a_seed=True,
        weights=True,
    ),
}


def experiment(profile: str) -> Experiment:
    scale = choose_profile(PROFILES, profile)
    runs = tuple(run for dataset in scale.datasets for run in study(dataset, scale))
    shared = "Rows of a regime are given one pretraining: its seed does not vary between replicates."
    return Experiment(
        question="Which pretraining wins back how much of a plain ViT's shortfall?",
        note="" if scale.one_a_seed else shared,
        runs=runs + (pets() if scale.weights else ()),
    )


def study(dataset: str, scale: Scale) -> tuple[Run, ...]:
    """Return the runs on one dataset: the backbones from scratch, then regime by regime those after a pretraining."""
    ones = [Run(dataset=dataset, backbone=name, size=min(scale.seen), **scale.recipe) for name in scale.backbones]
    runs = [run for one in ones for run in cells(one, scale)]
    for regime in METHODS:
        able = catalogue.REGIMES[regime].architectures  # empty: all
        for one in ones:
            if not able or catalogue.architecture(one.backbone) in able:
                runs += after(replace(one, regime=regime), scale)
    return tuple(runs)


def after(one: Run, scale: Scale) -> tuple[Run, ...]:
    """Return a regime's pretraining, or one for each seed, and the fine-tuning runs that start from it."""
    fields = {"source": scale.source, **METHODS[one.regime], "samples_seen": scale.pretraining[one.regime]}
    pretraining = Run(
        dataset=one.dataset,
        backbone=one.backbone,
        task="pretrain",
        regime=one.regime,
        batch_size=scale.pretraining_batch,
        monitor=scale.monitor,
        **fields,
    )
    runs: list[Run] = []
    for run in cells(replace(one, source=pretraining.source, learning_rate=FINETUNE_RATE), scale):
        before = replace(pretraining, seed=run.seed if scale.one_a_seed else 0)
        runs += [before, replace(run, pretraining=run_id(before))]
    return tuple(dict.fromkeys(runs))


def cells(run: Run, scale: Scale) -> tuple[Run, ...]:
    """Return copies of a run at every size, draw and seed."""
    sized = [replace(run, size=size, samples_seen=seen) for size, seen in scale.seen.items()]
    return tuple(cell for run in sized for cell in grid(run, replicate=scale.replicates))


def pets() -> tuple[Run, ...]:
    """Return runs on photographs at 224 px: DeiT-tiny and EfficientNet-Lite0, from scratch and from weights."""
    names = ("deit_tiny_patch16_224", "tf_efficientnet_lite0")
    one = Run(dataset="oxford_pet", backbone=names[0], size=370, image_size=224, batch_size=64, samples_seen=128_000)
    one = replace(one, resized_crop=0.3, learning_rate=3e-4, **recipe("strong"))
    starts = [replace(one, backbone=name) for name in names]
    starts += [replace(one, backbone=name, regime="weights", weights=name, source=name) for name in names]
    sizes = (370, 1110, 3000)  # 10, 30 and 81 a breed
    return tuple(run for one in starts for run in grid(one, size=sizes, replicate=((0, 0), (1, 1), (2, 2))))
