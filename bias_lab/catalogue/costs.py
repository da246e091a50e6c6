"""What an image costs to train on, by backbone: seconds on one core, measured, for the estimate of a dry run."""

MEASURED = {  # (backbone, side in pixels) → milliseconds an image, medians of the runs in docs/results (2 busy cores)
    ("mlp_micro", 28): 0.3,
    ("resnet_micro", 28): 2.0,
    ("vit_micro", 28): 2.2,
    ("efficientnet_micro", 28): 2.6,
    ("efficientvit_micro", 28): 3.1,
    ("swin_micro", 28): 3.3,
    ("mobilenetv3_micro", 28): 3.4,
    ("mobilevit_micro", 28): 4.4,
    ("deit_tiny_patch16_224", 96): 23.0,
    ("tf_efficientnet_lite0", 96): 27.0,
}
PRETRAINING = {"mae": 0.7, "simmim": 1.2, "dino": 4.2}  # regime → cost of an image in images of training from scratch
OTHER = 4.0  # milliseconds an image of 28 px, for a backbone that was never measured
FIXED = 2.0  # seconds that every run takes beside its images
READING = 1 / 3  # cost of an image that is evaluated, in images that are trained on


def seconds_per_image(backbone: str, side: int, pretraining: str = "") -> float:
    """Return an estimate of the seconds that one image takes to train on, which grows with the image's area.

    pretraining: the regime of a pretraining, empty for other training.

    >>> seconds_per_image("vit_micro", 28), seconds_per_image("vit_micro", 56)
    (0.0022, 0.0088)
    """
    known = [(size, cost) for (name, size), cost in MEASURED.items() if name == backbone]
    size, cost = min(known, key=lambda pair: abs(pair[0] - side), default=(28, OTHER))
    return round(PRETRAINING.get(pretraining, 1.0) * cost * (side / size) ** 2 / 1000, 6)


def is_measured(backbone: str) -> bool:
    """Return whether the backbone has a row in the table."""
    return any(name == backbone for name, _ in MEASURED)
