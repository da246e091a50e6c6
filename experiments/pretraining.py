"""Which pretraining wins back how much of a plain ViT's shortfall, and is it more than a CNN has without any?

Asked: the recovery of each regime, the share of the shortfall (ResNet from scratch minus plain ViT from scratch, at the
same number of labelled images, paired over replicates) that the ViT wins back; what the same regime gives the ResNet;
and what it cost, in images seen before the first label.
Run: a plain ViT and a ResNet of like size from scratch and after each regime: supervised and formula (with labels, on
another source), mae (ViT alone, it needs patches), simmim and dino (no labels, on the pool). Every row of a backbone is
fine-tuned on the same images, for the same images seen.
Expected: without labels on the target's own images wins back most; a source unlike the target little; the ResNet gains
less, since locality is what it has already.
What would change the answer: a recovery whose interval holds 0; a ResNet that gains as much as the ViT.
Laptop: 40 minutes on 2 slow cores. Fashion-MNIST, one pretraining a method and backbone, shared by all replicates, and
up to 2 minutes of one core each: what more of it would give is not shown, and for DINO, whose every image is seen
through six crops by student and teacher, that is a hundred steps. `supervised` learns figures, `formula` fractals, both
drawn by the lab.
Full: CIFAR-10 and CIFAR-100 with Tiny-ImageNet as the source, a pretraining a seed, strong augmentation; and
Oxford-IIIT Pet at 224 px with ImageNet's weights. To be held against at all 50,000 labels, within 1.5 points: a ViT of
2.8 M parameters (vit_mini is that one: width 192, depth 9, 12 heads, MLP of 384) 93.58 on CIFAR-10 and 73.81 on
CIFAR-100, with self-distillation on the target's images 96.41 and 79.15. Swin, which `--backbone swin_mini` joins,
94.46 and 76.87, and on a quarter, half and three quarters of CIFAR-10 83.36, 90.83, 91.73 (--sizes 12500,25000,37500);
it was a larger one, so for orientation. Published without intervals for 100 epochs, batch 128, learning rate 1e-3,
weight decay 0.05, 10 epochs of warm-up, AutoAugment (here TrivialAugment), mixup, cutmix, label smoothing, repeated
augmentation, erasing 0.25.
Run it: make sweep-pretraining [PROFILE=smoke|laptop|full]
"""

from dataclasses import replace

from bias_lab.definition import Experiment, Run, recipe, run_id

FINETUNE_RATE = 1e-3  # of what starts from a pretraining; from scratch: the tuned rates, but in full a fixed one too

METHODS = {  # regime → what its pretraining looks at, and what it needs of its own
    "mae": dict(source="pool", learning_rate=2e-3),
    "simmim": dict(source="pool", learning_rate=2e-3, mask_ratio=0.6),
    "dino": dict(source="pool", learning_rate=2.5e-4),
    "supervised": dict(learning_rate=1e-3),
    "formula": dict(source="fractals", learning_rate=1e-3),
}

LAPTOP = dict(
    studies=(dict(dataset="fashion_mnist_12k"),),
    source="shapes:position=free",
    backbones=dict(vit="vit_micro", cnn="resnet_micro"),
    seen={100: 16_000, 500: 16_000},  # labelled images: images seen while fine-tuning
    replicates=((0, 0), (1, 1), (2, 2)),  # (draw, seed)
    recipe=dict(batch_size=32),
    pretraining=dict(mae=80_000, simmim=40_000, dino=12_800, supervised=40_000, formula=40_000),  # images seen
    pretraining_batch=128,
    monitor=0,  # how often neighbours are asked on the way, besides at the end
    one_a_seed=False,
    weights=False,
)

SCALE = {
    "smoke": LAPTOP
    | dict(
        seen={20: 320},
        replicates=((0, 0), (1, 1)),
        pretraining=dict.fromkeys(METHODS, 256),
        pretraining_batch=32,
    ),
    "laptop": LAPTOP,
    "full": dict(
        studies=(dict(dataset="cifar10"), dict(dataset="cifar100")),
        source="tiny_imagenet",
        backbones=dict(vit="vit_mini", cnn="resnet_mini"),
        seen={500: 1_280_000, 5000: 2_560_000, 50_000: 5_000_000},  # the last: the anchors' 100 epochs
        replicates=((0, 0), (1, 1), (2, 2)),
        recipe=dict(batch_size=128, learning_rate=1e-3, repeated_augmentation=3, **recipe("strong")),
        pretraining=dict.fromkeys(METHODS, 20_000_000),
        pretraining_batch=512,
        monitor=20,
        one_a_seed=True,
        weights=True,
    ),
}


def experiment(profile: str) -> Experiment:
    scale = SCALE[profile]
    runs = tuple(run for what in scale["studies"] for run in study(what, scale))
    shared = "Rows of a regime are given one pretraining: its seed does not vary between replicates."
    return Experiment(
        question="Which pretraining wins back how much of a plain ViT's shortfall?",
        note="" if scale["one_a_seed"] else shared,
        runs=runs + (pets() if scale["weights"] else ()),
    )


def study(what: dict, scale: dict) -> tuple[Run, ...]:
    """One dataset's runs: backbones from scratch, then, regime by regime, a pretraining and what starts from it."""
    vit, cnn = scale["backbones"]["vit"], scale["backbones"]["cnn"]
    one = Run(backbone=vit, size=min(scale["seen"]), **scale["recipe"], **what)
    runs = cells(one, scale) + cells(replace(one, backbone=cnn), scale)
    for regime in METHODS:
        for backbone in (vit, cnn):
            if regime == "mae" and backbone == cnn:
                continue  # its encoder sees visible patches alone
            runs += after(replace(one, backbone=backbone, regime=regime), scale)
    return runs


def after(one: Run, scale: dict) -> tuple[Run, ...]:
    """A regime's pretraining, or one a seed, and the fine-tuning runs that start from it."""
    own = {"source": scale["source"], **METHODS[one.regime]}
    plain = Run(dataset=one.dataset, backbone=one.backbone, task="pretrain", regime=one.regime)
    seen, batch = scale["pretraining"][one.regime], scale["pretraining_batch"]
    pretraining = replace(plain, samples_seen=seen, batch_size=batch, monitor=scale["monitor"], **own)
    runs: list[Run] = []
    for run in cells(replace(one, source=own["source"], learning_rate=FINETUNE_RATE), scale):
        before = replace(pretraining, seed=run.seed if scale["one_a_seed"] else 0)
        runs += [before, replace(run, pretraining=run_id(before))]
    return tuple(dict.fromkeys(runs))


def cells(run: Run, scale: dict) -> tuple[Run, ...]:
    """A run at every size, draw and seed."""
    return tuple(
        replace(run, size=size, samples_seen=seen, draw=draw, seed=seed)
        for size, seen in scale["seen"].items()
        for draw, seed in scale["replicates"]
    )


def pets() -> tuple[Run, ...]:
    """Photographs at 224 px: DeiT-tiny and EfficientNet-Lite0, from scratch and from ImageNet's weights."""
    names = ("deit_tiny_patch16_224", "tf_efficientnet_lite0")
    one = Run(dataset="oxford_pet", backbone=names[0], size=370, image_size=224, batch_size=64, samples_seen=128_000)
    one = replace(one, resized_crop=0.3, learning_rate=3e-4, **recipe("strong"))
    starts = [replace(one, backbone=name) for name in names]
    starts += [replace(one, backbone=name, regime="weights", weights=name, source=name) for name in names]
    return tuple(
        replace(start, size=size, draw=draw, seed=draw)
        for start in starts
        for size in (370, 1110, 3000)  # 10, 30 and 81 a breed
        for draw in range(3)
    )
