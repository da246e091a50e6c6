"""How much accuracy does a plain vision transformer lose to CNNs when labels are few, and does pretraining buy it back?

Question: the shortfall is the mean accuracy of ResNet, EfficientNet and MobileNetV3 minus that of the plain ViT, paired
over replicates. How large is it at each number of labelled images, and which share of it does pretraining without
labels (MAE on the images of the pool) recover?
Runs: seven backbones of similar size (0.3-0.5 M parameters) on nested subsets, each with its own tuned learning rate,
the same images seen at a size, and the last weights. A replicate is a draw of images and a seed. Swin, MobileViT and
EfficientViT run at the smallest and at the largest size. ViT and ResNet also run under the strong recipe at one size,
and with three times the images seen at the smallest and at the largest size.
Expected: CNNs are ahead where labels are fewest. The gap shrinks as labels grow, and MAE recovers part of it.
The answer would be different if the interval of the shortfall contained 0 at the two smallest sizes, if the ViT reached
the CNNs with three times the images seen, or if the gap vanished under the strong recipe.
Cost: the laptop profile takes 52 minutes on 2 slow cores. The first two rows come after 1 minute, and the interval of
ViT against ResNet at the two smallest sizes after 5. Tuning (experiments/tuning.py) is not included.
Run it: make sweep-small-data [PROFILE=smoke|laptop|full]
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bias_lab.definition import Experiment, Run, choose_profile, grid, recipe, run_id

CNNS = ("resnet", "efficientnet", "mobilenetv3")
OTHERS = ("swin", "mobilevit", "efficientvit")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How big a profile is."""

    datasets: tuple[str, ...] = ("fashion_mnist_12k",)
    seen: Mapping[int, int]  # number of labelled images → images seen, by every backbone
    replicates: tuple[tuple[int, int], ...]  # (draw, seed), the same for every backbone
    size_of: str = "micro"  # suffix of every backbone's name
    batch_size: int = 32
    pretraining: Mapping[str, Any]  # fields of the ViT's MAE pretraining


PROFILES = {
    "smoke": Scale(
        seen={20: 128, 40: 128},
        replicates=((0, 0),),  # one replicate gives no interval
        pretraining=dict(samples_seen=256, batch_size=64, learning_rate=2e-3),
    ),
    "laptop": Scale(
        seen=dict.fromkeys((100, 300, 1000, 3000), 16_000),
        replicates=((0, 0), (1, 1), (2, 2)),
        pretraining=dict(samples_seen=192_000, batch_size=128, learning_rate=2e-3),
    ),
    "full": Scale(
        datasets=("cifar10", "cifar100"),
        seen={n: max(1_280_000, 100 * n) for n in (500, 1000, 2500, 5000, 10_000, 20_000, 35_000, 50_000)},
        replicates=tuple((draw, seed) for draw in range(3) for seed in range(3)),
        size_of="mini",
        batch_size=128,
        pretraining=dict(samples_seen=20_000_000, batch_size=512, learning_rate=1.5e-3, monitor=20),
    ),
}


def experiment(profile: str) -> Experiment:
    scale = choose_profile(PROFILES, profile)
    return Experiment(
        question="How much accuracy does a plain ViT lose to CNNs when labels are few, and what buys it back?",
        note="The ViT's pretrained rows are given one pretraining: its seed does not vary between replicates.",
        runs=tuple(run for dataset in scale.datasets for run in study(dataset, scale)),
    )


def study(dataset: str, scale: Scale) -> tuple[Run, ...]:
    """Return the runs on one dataset. Those that answer the question come first: ViT and ResNet, smallest sizes."""
    sizes = sorted(scale.seen)
    vit, resnet, *cnns = (f"{name}_{scale.size_of}" for name in ("vit", *CNNS))
    others = tuple(f"{name}_{scale.size_of}" for name in OTHERS)
    one = Run(dataset=dataset, backbone=vit, size=sizes[0], batch_size=scale.batch_size)
    pretraining = replace(one, task="pretrain", regime="mae", source="pool", size=0, **scale.pretraining)

    def cells(run: Run, backbones: tuple[str, ...], sizes: list[int]) -> tuple[Run, ...]:
        sized = [replace(run, size=size, samples_seen=scale.seen[size]) for size in sizes]
        return tuple(cell for run in sized for cell in grid(run, replicate=scale.replicates, backbone=backbones))

    middle = sizes[len(sizes) // 2]
    pretrained = replace(one, regime="mae", source="pool", pretraining=run_id(pretraining))
    return (
        cells(one, (vit, resnet), sizes[:2])
        + (pretraining,)
        + cells(one, tuple(cnns), sizes[:2])
        + cells(pretrained, (vit,), sizes[:2])
        + cells(one, (vit, resnet, *cnns), sizes[2:])
        + cells(pretrained, (vit,), sizes[2:])
        + cells(one, others, [sizes[0], sizes[-1]])
        + cells(replace(one, budget=3.0), (vit, resnet), [sizes[0], sizes[-1]])
        + cells(replace(one, **recipe("strong")), (vit, resnet), [middle])
    )
