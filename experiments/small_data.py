"""How much accuracy does a plain vision transformer lose to CNNs when labels are few, and does pretraining buy it back?

Question: the shortfall is the accuracy of ResNet, EfficientNet and MobileNetV3 minus that of the plain ViT, paired
over replicates. How large is it where each backbone is trained as its hold-out prefers until more training no longer
helps (settled), how large after the same number of images seen (equal images), and how much of it does MAE recover?
Runs: the pair ViT and ResNet is settled, each cell with the learning rate and budget that tuning found, and with the
recipe that it found in desk_1000 and full. In laptop, desk and full all seven backbones run at equal images under the
plain recipe. Draws are disjoint, but for smoke and desk_9000. Controls say what an accuracy is worth: a linear
classifier and nearest neighbours on pixels, an MLP, untrained backbones read out linearly, ViTs with other priors, a
ResNet without batch norm. Desk_1000 and full also have the pair under each recipe alone, and under AdamW with the
plain recipe. Each replicate of MAE has a pretraining of its own, and one of zero steps as its control.
Desk has several commands, whose tables `bl.open_results` joins: desk_1000 is the part that comes first (the pair at
1,000 labels under each recipe, and under AdamW, with the controls on pixels and untrained features). Then come desk
(100, 1,000 and 3,000 labels under the plain recipe, whose budgets are far smaller), desk_9000 (the pair at 9,000
labels, where almost the whole pool is used, so that its replicates differ by seed alone) and desk_pretraining (MAE
and DINO over 80,000 images seen, beside a ViT from scratch with MAE's positions, and the pair from scratch with as
many images).
Shapes is the case whose answer is known: drawn shapes at a free position, where a linear classifier on pixels is far
behind a CNN, which can reach 100 %.
Expected: CNNs are ahead, by more where they can be trained longer, and MAE recovers part of it. Found at 1,000
labels: the ResNet is ahead. On CIFAR-10 it is under either recipe, and both backbones do better under the strong one.
Under the plain one no difference between a settled EfficientNet and the ResNet is shown, and the settled gap is larger
than that at equal images on CIFAR-10, and smaller on Fashion-MNIST. Under it the gap on CIFAR-10 is smaller at 100
labels, not shown to differ at 3,000, and at 9,000 both gain more than 20 points. On drawn shapes no difference is
shown after a correction over 300 and 1,000 labels. MAE of 80,000 images is shown to add to its zero steps on
Fashion-MNIST, and not on CIFAR-10.
The answer would be different if the interval of the settled shortfall contained 0 at the largest size, or if a linear
classifier on pixels came within 2 points of the ResNet there, since the images would then say nothing of locality.
Laptop, desk, desk_9000 and shapes settle the pair under the plain recipe alone, since on CIFAR-10 it settled 4 to 16
times later under the strong one. Smoke and desk_pretraining settle nothing. Tune profiles without committed rates
first (experiments/tuning.py).
Run it: make sweep-small-data [PROFILE=smoke|laptop|desk|desk_1000|desk_9000|desk_pretraining|shapes|full]; desk needs
CIFAR-10 (--data-root)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bias_lab.definition import LADDER, Experiment, Ladder, Run, choose_profile, grid, recipe, run_id

CNNS = ("resnet", "efficientnet", "mobilenetv3")
OTHERS = ("swin", "mobilevit", "efficientvit")
EVERY = ("vit", *CNNS, *OTHERS)
PAIR = ("vit", "resnet")
VARIANTS = ("sincos_positions", "mean_pooling", "mean_pooling+sincos_positions")  # priors of the ViT
RECIPES = ("plain", "strong")
ADAMW_REPLICATES = 3  # draws of the pair under AdamW


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How big a profile is. Numbers of replicates are numbers of disjoint draws, unless `blocks` is 0."""

    dataset: str = "fashion_mnist_12k"
    settled: Mapping[int, int] = field(default_factory=dict)  # labelled images → replicates of the pair
    settled_family: Mapping[int, int] = field(default_factory=dict)  # the same for EfficientNet
    equal: Mapping[int, int] = field(default_factory=dict)  # labelled images → images seen by every backbone
    equal_of: tuple[str, ...] = EVERY  # architectures at equal images
    replicates: int = 3  # at equal images, and of the controls
    blocks: Mapping[int, int] = field(default_factory=dict)  # labelled images → blocks of the pool
    draws: bool = True  # whether replicates differ in their labelled images, and not by seed alone
    alone_at: tuple[int, ...] = ()  # sizes at which the pair runs under each recipe alone
    adamw_at: tuple[int, ...] = ()  # sizes at which the pair is settled under AdamW with the plain recipe
    mlp_at: tuple[int, ...] = ()  # sizes at which an MLP is settled
    variants_at: tuple[int, ...] = ()  # sizes of the variants of the ViT and the ResNet
    pretrained_at: tuple[int, ...] = ()  # sizes after pretraining, and of its controls
    pretrainings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # regime → its fields, of the ViT
    longer: int = 0  # images that the pair from scratch sees besides, as many as a pretraining's (0: without)
    size_of: str = "micro"  # suffix of every backbone's name
    optimizer: str = "muon"
    batch_size: int = 32
    ladder: Ladder = LADDER
    recipe: str = "tuned"  # of the settled cells: the one that the hold-out prefers, or one by its name


PROFILES = {
    "smoke": Scale(
        equal={20: 128, 40: 128},
        replicates=1,  # one replicate gives no interval
        pretrained_at=(20, 40),
        optimizer="adamw",
        pretrainings={"mae": dict(samples_seen=256, batch_size=64, learning_rate=2e-3)},
        ladder=Ladder(first=64, cap=128, replicates=1),
    ),
    "laptop": Scale(
        settled={100: 3, 1000: 3},
        equal=dict.fromkeys((100, 1000), 16_000),
        blocks={100: 3, 1000: 3},
        mlp_at=(100, 1000),
        pretrained_at=(1000,),
        pretrainings={"mae": dict(samples_seen=80_000, batch_size=128, learning_rate=2e-3)},
        recipe="plain",  # under the strong one the pair settles far later on CIFAR-10
        ladder=Ladder(cap=512_000),
    ),
    "desk": Scale(
        dataset="cifar10_12k",
        settled={1000: 5, 100: 5, 3000: 3},
        settled_family={1000: 3},
        equal={1000: 16_000},
        blocks={100: 5, 1000: 5, 3000: 3},
        mlp_at=(1000, 100, 3000),
        variants_at=(1000,),
        recipe="plain",  # one ViT takes about an hour under the strong recipe: desk_1000 has both
        ladder=Ladder(cap=1_024_000),  # at 3,000 labels the ResNet still gains at 256,000
    ),
    "desk_1000": Scale(  # a part of desk
        dataset="cifar10_12k",
        settled={1000: 5},
        equal={1000: 16_000},
        equal_of=PAIR,
        replicates=5,
        blocks={1000: 5},
        alone_at=(1000,),
        adamw_at=(1000,),
        ladder=Ladder(cap=1_024_000),  # the ViT under the strong recipe settles there
    ),
    "desk_9000": Scale(
        dataset="cifar10_12k",
        settled={9000: 3},
        draws=False,
        mlp_at=(9000,),
        recipe="plain",  # as in desk
        ladder=Ladder(first=64_000, cap=1_024_000),  # the ResNet still gains at 512,000
    ),
    "desk_pretraining": Scale(
        dataset="cifar10_12k",
        equal={1000: 16_000},
        equal_of=PAIR,
        blocks={1000: 5},  # the draws of desk
        pretrained_at=(1000,),
        pretrainings={
            "mae": dict(samples_seen=80_000, batch_size=128, learning_rate=2e-3),
            "dino": dict(samples_seen=80_000, batch_size=128, learning_rate=2.5e-4, teacher_schedule="steps"),
        },
        longer=80_000,
    ),
    "shapes": Scale(
        dataset="shapes:position=free",
        settled=dict.fromkeys((100, 300, 1000, 3000), 3),
        blocks=dict.fromkeys((100, 300, 1000, 3000), 3),
        mlp_at=(100, 300, 1000, 3000),
        recipe="plain",  # as in laptop
        ladder=Ladder(cap=1_024_000, ceiling=0.99),  # the ViT still gains at 256,000, and can hardly gain above 99 %
    ),
    "full": Scale(
        dataset="cifar10",
        settled=dict.fromkeys((500, 1000, 2500, 5000, 10000, 16000), 3),
        equal={n: max(1_280_000, 100 * n) for n in (500, 1000, 2500, 5000, 10_000, 16_000)},
        blocks=dict.fromkeys((500, 1000, 2500, 5000, 10_000, 16_000), 3),
        alone_at=(1000, 10_000),
        adamw_at=(1000, 10_000),
        mlp_at=(500, 1000, 2500, 5000, 10_000, 16_000),
        variants_at=(1000, 10_000),
        pretrained_at=(1000, 10_000),
        size_of="mini",
        batch_size=128,
        pretrainings={"mae": dict(samples_seen=20_000_000, batch_size=512, learning_rate=1.5e-3, monitor=20)},
        ladder=Ladder(first=128_000, cap=8_192_000),
    ),
}


def experiment(profile: str) -> Experiment:
    scale = choose_profile(PROFILES, profile)
    return Experiment(
        question="How much accuracy does a plain ViT lose to CNNs when labels are few, and what buys it back?",
        runs=tuple(dict.fromkeys(study(scale))),
        ladder=scale.ladder,
    )


def study(scale: Scale) -> tuple[Run, ...]:
    """Return the runs of one profile, first those that answer the question: the settled pair, then equal images."""
    vit, resnet, efficientnet = (f"{name}_{scale.size_of}" for name in (*PAIR, "efficientnet"))
    equals = tuple(f"{name}_{scale.size_of}" for name in scale.equal_of)
    one = Run(dataset=scale.dataset, backbone=vit, size=1, batch_size=scale.batch_size, optimizer=scale.optimizer)
    open_run = replace(one, samples_seen=None, **recipe(scale.recipe))
    frozen = Run(dataset=scale.dataset, backbone=vit, size=1, protocol="linear_probe")

    def cells(run: Run, backbones: tuple[str, ...], replicates: Mapping[int, int]) -> tuple[Run, ...]:
        return tuple(
            cell
            for size, count in replicates.items()
            for cell in grid(
                replace(run, size=size, blocks=scale.blocks.get(size, 0)),
                replicate=tuple((k if scale.draws else 0, k) for k in range(count)),
                backbone=backbones,
            )
        )

    def alone(run: Run, backbones: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[Run, ...]:
        return cells(run, backbones, dict.fromkeys(sizes, scale.replicates))

    equal = tuple(
        run for size, seen in scale.equal.items() for run in alone(replace(one, samples_seen=seen), equals, (size,))
    )
    sizes = tuple(dict.fromkeys((*scale.settled, *scale.equal)))
    under_adamw = replace(open_run, optimizer="adamw", **recipe("plain"))
    # each recipe alone has the headline's replicates, so that they can be held against one another
    under_each = {size: scale.settled.get(size, scale.replicates) for size in scale.alone_at}
    return (
        *cells(open_run, (vit, resnet), scale.settled),
        *alone(frozen, ("pixels",), sizes),
        *equal,
        *cells(open_run, (efficientnet,), scale.settled_family),
        *alone(replace(frozen, protocol="knn"), ("pixels",), sizes),
        *alone(frozen, (vit, resnet), sizes),
        *controls(open_run, scale, alone),
        *(run for name in RECIPES for run in cells(replace(open_run, **recipe(name)), (vit, resnet), under_each)),
        *cells(under_adamw, (vit, resnet), dict.fromkeys(scale.adamw_at, ADAMW_REPLICATES)),
        *pretrained(one, resnet, scale, alone),
    )


def controls(run: Run, scale: Scale, alone: Callable[..., tuple[Run, ...]]) -> tuple[Run, ...]:
    """Return an MLP, which is settled, and at equal images variants of the ViT and a ResNet without batch norm.

    run: of the ViT, with open recipe and budget.
    """
    mlp = alone(run, (f"mlp_{scale.size_of}",), scale.mlp_at)
    variants: tuple[Run, ...] = ()
    for size in scale.variants_at:
        equal = replace(run, **recipe("plain"), samples_seen=scale.equal[size])
        for priors in VARIANTS:
            variants += alone(replace(equal, priors=priors), (run.backbone,), (size,))
        variants += alone(replace(equal, priors="no_batch_norm"), (f"resnet_{scale.size_of}",), (size,))
        variants += alone(equal, (f"vit_{scale.size_of}_wide",), (size,))
    return mlp + variants


def pretrained(vit: Run, resnet: str, scale: Scale, alone: Callable[..., tuple[Run, ...]]) -> tuple[Run, ...]:
    """Return pretrainings of the ViT, one for each replicate, the runs at equal images after them, and their controls.

    A pretraining of zero steps shows what its start alone is worth. Where `longer` is set, the ViT from scratch runs
    with MAE's positions, and the pair from scratch sees the pretraining's images besides.
    """
    runs: list[Run] = []
    starts = [replace(vit, size=size, samples_seen=scale.equal[size]) for size in scale.pretrained_at]
    for regime, fields in scale.pretrainings.items():
        for steps in (fields, {**fields, "samples_seen": 0}):
            for start in starts:
                after = replace(start, regime=regime, source="pool")
                for run in alone(after, (vit.backbone,), (start.size,)):
                    before = replace(after, task="pretrain", size=0, optimizer="adamw", seed=run.seed, **steps)
                    runs += [before, replace(run, pretraining=run_id(before))]
    for start in starts if scale.longer else ():
        runs += alone(replace(start, priors=VARIANTS[0]), (vit.backbone,), (start.size,))
        longer = replace(start, samples_seen=scale.equal[start.size] + scale.longer)
        runs += alone(longer, (vit.backbone, resnet), (start.size,))
    return tuple(runs)
