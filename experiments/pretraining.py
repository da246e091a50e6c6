"""Which pretraining wins back how much of a plain ViT's shortfall, and is it more than a CNN has without any?

Question: the shortfall is the accuracy of ResNet from scratch minus that of the plain ViT from scratch, at the same
number of labelled images, paired over replicates. The recovery of a regime is the share of it that the ViT wins back.
How large is it for each regime, what does the same regime give the ResNet, and how many images did it see before the
first label?
Runs: a plain ViT and a ResNet of similar size, from scratch and after each regime. `supervised` and `formula` pretrain
with labels on another source, `mae` (ViT alone, it needs patches), `simmim` and `dino` without labels on the pool. All
rows are fine-tuned on the same labelled images, for the same images seen, and every start is fine-tuned at the
learning rate that its own hold-out prefers on the same grid (experiments/tuning.py). The rates of pretrainings are
given below, and not tuned. In laptop and desk the optimizer of fine-tuning is Muon, as in small_data, and that of
every pretraining AdamW. A replicate has a pretraining of its own, with its seed, so that intervals hold for
pretrainings too. In smoke all replicates share one.
Controls: MAE of zero steps leaves its start, sines and cosines as positions, and no training. It has MAE's learning
rate. `sincos_positions` gives these positions to the ViT from scratch and keeps them fixed. The ViT and the ResNet
from scratch also see as many images as pretraining and fine-tuning together.
Expected: pretraining without labels on the target's own images recovers most, and a source unlike the target little.
The ResNet gains less, because it has locality already.
The answer would be different if the interval of a recovery contained 0, if the ResNet gained as much as the ViT, or if
a control gained as much as the regime.
Found on CIFAR-10 at 1,000 labels: MAE's start without a step gains as much as MAE, and most recoveries have an interval
that contains 0. So no recovery is shown to come from a pretraining's training.
Laptop: Fashion-MNIST, 40,000 images for each pretraining. `supervised` learns drawn shapes, and `formula` drawn
fractals.
Desk: CIFAR-10, 40,000 images for each pretraining, and the draws of small_data's desk, so that both have the same runs
from scratch. `supervised` learns drawn shapes, and Tiny-ImageNet: the folder ./tiny_imagenet20 with a folder for each
class if it is there, else the dataset by name.
The momentum of DINO's teacher follows the number of steps in these short profiles.
Full: CIFAR-10 and CIFAR-100 with Tiny-ImageNet as the source and strong augmentation, and Oxford-IIIT Pet at 224 px
with ImageNet's weights. At all 50,000 labels the results can be compared with published ones, within 1.5 points. A ViT
of 2.8 M parameters (the size of vit_mini: width 192, depth 9, 12 heads, MLP of 384) has 93.58 on CIFAR-10 and 73.81 on
CIFAR-100, and after self-distillation on the target's images 96.41 and 79.15. Swin, which `--backbone swin_mini` joins,
has 94.46 and 76.87, and on a quarter, half and three quarters of CIFAR-10 83.36, 90.83 and 91.73 (--sizes
12500,25000,37500). It was a larger Swin, so these figures are for orientation. They were published without intervals,
for 100 epochs, batch 128, learning rate 1e-3, weight decay 0.05, 10 epochs of warm-up, AutoAugment (here
TrivialAugment), mixup, cutmix, label smoothing, repeated augmentation and erasing 0.25.
Run it: make sweep-pretraining [PROFILE=smoke|laptop|desk|full]
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bias_lab import catalogue
from bias_lab.definition import Experiment, Run, choose_profile, grid, recipe, run_id

SHAPES, TINY = "shapes:position=free", "tiny_imagenet"  # sources of `supervised`
METHODS: dict[str, dict[str, Any]] = {  # regime → the fields of its pretraining
    "mae": dict(source="pool", learning_rate=2e-3),
    "simmim": dict(source="pool", learning_rate=2e-3, mask_ratio=0.6),
    "dino": dict(source="pool", learning_rate=2.5e-4),
    "supervised": dict(learning_rate=1e-3),
    "formula": dict(source="fractals", learning_rate=1e-3),
}
SHORT: dict[str, dict[str, Any]] = {**METHODS, "dino": {**METHODS["dino"], "teacher_schedule": "steps"}}
ZERO_STEPS = "mae"  # the regime whose start alone, without a step, is a control
POSITIONS = "sincos_positions"  # of that start, as a prior of the ViT from scratch


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How big a profile is."""

    datasets: tuple[str, ...] = ("fashion_mnist_12k",)
    sources: tuple[str, ...] = (SHAPES,)  # of a pretraining whose method has none of its own. A CNN takes the first
    backbones: tuple[str, str] = ("vit_micro", "resnet_micro")
    regimes_of_cnn: tuple[str, ...] = ("simmim", "supervised")
    seen: Mapping[int, int]  # number of labelled images → images seen while fine-tuning
    replicates: tuple[tuple[int, int], ...] = ((0, 0), (1, 1), (2, 2))  # (draw, seed)
    blocks: int = 3  # disjoint draws, 0 for draws of the whole pool
    recipe: Mapping[str, Any] = field(default_factory=dict)  # fields of every fine-tuning run
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: SHORT)
    pretraining: int = 40_000  # images that each pretraining sees
    pretraining_batch: int = 128
    monitor: int = 0  # how many times a pretraining is evaluated by nearest neighbours before its end
    is_shared: bool = False  # one pretraining for all replicates
    weights: bool = False  # photographs with ImageNet's weights too


PROFILES = {
    "smoke": Scale(
        regimes_of_cnn=tuple(METHODS),
        seen={20: 320},
        replicates=((0, 0), (1, 1)),
        recipe=dict(learning_rate=1e-3),
        pretraining=256,
        pretraining_batch=32,
        is_shared=True,
    ),
    "laptop": Scale(seen={500: 16_000}, recipe=dict(optimizer="muon")),
    "desk": Scale(
        datasets=("cifar10_12k",),
        sources=(TINY, SHAPES),
        seen={1000: 16_000},
        blocks=5,  # the draws of small_data's desk: both studies have the same runs from scratch
        recipe=dict(optimizer="muon"),
    ),
    "full": Scale(
        datasets=("cifar10", "cifar100"),
        sources=(TINY,),
        backbones=("vit_mini", "resnet_mini"),
        blocks=0,  # at the largest size every draw is the whole pool
        regimes_of_cnn=tuple(METHODS),
        seen={500: 1_280_000, 5000: 2_560_000, 50_000: 5_000_000},  # the last: 100 epochs, as published
        recipe=dict(batch_size=128, repeated_augmentation=3, **recipe("strong")),
        methods=METHODS,
        pretraining=20_000_000,
        pretraining_batch=512,
        monitor=20,
        weights=True,
    ),
}


def experiment(profile: str) -> Experiment:
    scale = choose_profile(PROFILES, profile)
    runs = tuple(run for dataset in scale.datasets for run in study(dataset, scale))
    return Experiment(
        question="Which pretraining wins back how much of a plain ViT's shortfall?",
        note="Replicates share one pretraining of each regime, so intervals are given it." if scale.is_shared else "",
        runs=runs + (pets() if scale.weights else ()),
    )


def study(dataset: str, scale: Scale) -> tuple[Run, ...]:
    """Return the runs on one dataset: the backbones from scratch, regime by regime those after it, the controls."""
    vit, cnn = (Run(dataset=dataset, backbone=name, size=min(scale.seen), **scale.recipe) for name in scale.backbones)
    runs = [*cells(vit, scale), *cells(cnn, scale)]
    for regime in scale.methods:
        for place, source in enumerate(sources(regime, scale)):
            runs += after(replace(vit, regime=regime, source=source), scale)
            able = catalogue.REGIMES[regime].architectures  # empty: all
            takes = not able or catalogue.architecture(cnn.backbone) in able
            if takes and regime in scale.regimes_of_cnn and not place:
                runs += after(replace(cnn, regime=regime, source=source), scale)
    return (*runs, *controls(vit, cnn, scale))


def controls(vit: Run, cnn: Run, scale: Scale) -> tuple[Run, ...]:
    """Return the zero-step pretraining with its runs, and those from scratch with its positions or more images."""
    (source,) = sources(ZERO_STEPS, scale)
    zero = after(replace(vit, regime=ZERO_STEPS, source=source), scale, pretraining=0)
    positions = cells(replace(vit, priors=POSITIONS), scale)
    longer = replace(scale, seen={size: seen + scale.pretraining for size, seen in scale.seen.items()})
    return (*zero, *positions, *cells(vit, longer), *cells(cnn, longer))


def sources(regime: str, scale: Scale) -> tuple[str, ...]:
    """Return the sources of a regime's pretrainings: its own, or those of the profile."""
    own = scale.methods[regime].get("source")
    return (own,) if own else tuple(labelled(name) for name in scale.sources)


def labelled(name: str) -> str:
    """Return ./tiny_imagenet20 instead of Tiny-ImageNet if that folder is there, else the name as it is."""
    folder = Path("tiny_imagenet20")
    return str(folder) if name == TINY and folder.is_dir() else name


def after(one: Run, scale: Scale, *, pretraining: int | None = None) -> tuple[Run, ...]:
    """Return the pretrainings of a regime and the fine-tuning runs that start from them, one for each replicate.

    pretraining: images that they see, None for the profile's number.
    """
    fields = {
        **scale.methods[one.regime],
        "source": one.source,
        "samples_seen": scale.pretraining if pretraining is None else pretraining,
    }
    before = Run(
        dataset=one.dataset,
        backbone=one.backbone,
        task="pretrain",
        regime=one.regime,
        batch_size=scale.pretraining_batch,
        monitor=scale.monitor,
        **fields,
    )
    runs: list[Run] = []
    for run in cells(one, scale):
        its = before if scale.is_shared else replace(before, seed=run.seed)
        runs += [its, replace(run, pretraining=run_id(its))]
    return tuple(dict.fromkeys(runs))


def cells(run: Run, scale: Scale) -> Iterable[Run]:
    """Return copies of a run at every size, draw and seed."""
    sized = [replace(run, size=size, samples_seen=seen, blocks=scale.blocks) for size, seen in scale.seen.items()]
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
