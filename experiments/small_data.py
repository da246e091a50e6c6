"""How much accuracy does a plain vision transformer lose to CNNs when labels are few, and does pretraining buy it back?

Asked: the shortfall, mean accuracy of ResNet, EfficientNet and MobileNetV3 minus plain ViT's, at each number of
labelled images, paired over replicates; and the share of it that pretraining without labels (MAE on the pool's images)
wins back.
Run: seven backbones of like size (0.3-0.5 M parameters) on nested subsets, each with its own tuned learning rate, the
same images seen at a size, the last weights; a replicate is a draw of images and a seed. Swin, MobileViT and
EfficientViT at the smallest and largest size. ViT and ResNet also under the strong recipe at one size, and with three
times the images seen at the smallest and largest.
Expected: CNNs lead where labels are fewest; the lead shrinks as labels grow; MAE wins part of it back.
What would change the answer: a shortfall whose interval holds 0 at the two smallest sizes; a ViT that catches up when
it sees three times the images; a lead that the strong recipe undoes.
Cost: laptop, 52 minutes on 2 slow cores, the first two rows after 1 and the interval of ViT against ResNet at the two
smallest sizes after 5; tuning (experiments/tuning.py) not counted.
Run it: make sweep-small-data [PROFILE=smoke|laptop|full]
"""

from dataclasses import replace

from bias_lab.definition import Experiment, Run, grid, recipe, run_id

CNNS = ("resnet_micro", "efficientnet_micro", "mobilenetv3_micro")
OTHERS = ("swin_micro", "mobilevit_micro", "efficientvit_micro")

LAPTOP = dict(
    dataset="fashion_mnist_12k",
    seen=dict.fromkeys((100, 300, 1000, 3000), 16_000),  # size: images seen, by every backbone
    replicates=((0, 0), (1, 1), (2, 2)),  # (draw, seed), the same for every backbone
    size_of="micro",
    batch_size=32,
    pretraining=dict(samples_seen=192_000, batch_size=128, learning_rate=2e-3),
)

SCALE = {
    "smoke": LAPTOP
    | dict(
        seen={20: 128, 40: 128},
        replicates=((0, 0),),  # the path, not the answer: no interval
        pretraining=dict(samples_seen=256, batch_size=64, learning_rate=2e-3),
    ),
    "laptop": LAPTOP,
    "full": dict(
        dataset="cifar10",  # and cifar100, below
        seen={n: max(1_280_000, 100 * n) for n in (500, 1000, 2500, 5000, 10_000, 20_000, 35_000, 50_000)},
        replicates=tuple((draw, seed) for draw in range(3) for seed in range(3)),
        size_of="mini",
        batch_size=128,
        pretraining=dict(samples_seen=20_000_000, batch_size=512, learning_rate=1.5e-3, monitor=20),
    ),
}


def experiment(profile: str) -> Experiment:
    scale = SCALE[profile]
    runs = study(scale)
    if profile == "full":
        runs += study(scale | dict(dataset="cifar100"))
    return Experiment(
        question="How much accuracy does a plain ViT lose to CNNs when labels are few, and what buys it back?",
        note="The ViT's pretrained rows are given one pretraining: its seed does not vary between replicates.",
        runs=runs,
    )


def study(scale: dict) -> tuple[Run, ...]:
    """One dataset's runs, first those that answer the question: ViT against ResNet at the smallest sizes."""
    sizes = sorted(scale["seen"])
    vit, resnet, *cnns = (name.replace("micro", scale["size_of"]) for name in ("vit_micro", *CNNS))
    others = tuple(name.replace("micro", scale["size_of"]) for name in OTHERS)
    one = Run(dataset=scale["dataset"], backbone=vit, size=sizes[0], batch_size=scale["batch_size"])
    pretraining = replace(one, task="pretrain", regime="mae", source="pool", size=0, **scale["pretraining"])

    def cells(run: Run, backbones: tuple[str, ...], sizes: list[int]) -> tuple[Run, ...]:
        return tuple(
            made
            for size in sizes
            for draw, seed in scale["replicates"]
            for made in grid(
                replace(run, size=size, samples_seen=scale["seen"][size]),
                backbone=backbones,
                draw=(draw,),
                seed=(seed,),
            )
        )

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
