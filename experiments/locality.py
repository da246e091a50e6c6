"""Is the CNN's lead at few labels made of locality?

Asked: what remains of ResNet's lead over plain ViT when neighbourhoods are taken away, and nothing else. Two fixed
rearrangements, each the same for every image, training and test: of all pixels (no neighbour is left beside its
neighbour), and of whole patches of 4 pixels, aligned with the ViT's own (each patch stays whole, their places change).
Run: ViT and ResNet on the images as they are and on both rearrangements, the same images and seeds, each arm with its
own tuned learning rate.
Expected, if locality is the cause: pixels permuted, ResNet's lead vanishes (its interval holds 0), both far below their
own plain accuracy; patches permuted, the ViT does as well as before (it learns where patches belong, and starts with no
idea of it), while the ResNet loses.
What would change the answer: a lead that stays with pixels permuted (then it is not locality), or a ViT that suffers
from permuted patches (then it uses more than we think).
Found (laptop, docs/results/locality/): the lead shrinks with pixels permuted and does not vanish. It shrinks because
the ViT gains, whose patches then hold pixels from all over the image, while the ResNet does not move. With patches
permuted the ViT scores as before. On these images and at this budget the lead is not made of locality.
Run it: make sweep-locality [PROFILE=smoke|laptop|full]
"""

from bias_lab.definition import Experiment, Run, grid

BACKBONES = ("vit_micro", "resnet_micro")
ARMS = ("", "permute_pixels", "permute_patches:4")

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, samples_seen=16_000)

SCALE = {  # profile: what it changes, and nothing else
    "smoke": dict(size=(20,), replicates=((0, 0), (1, 1)), samples_seen=(640,)),
    "laptop": dict(size=(100, 1000), replicates=((0, 0), (1, 1), (2, 2), (3, 3)), samples_seen=(16_000,)),
    "full": dict(
        dataset=("cifar10",),
        backbone=("vit_mini", "resnet_mini"),
        size=(500, 2500, 10_000, 50_000),
        replicates=tuple((draw, seed) for draw in range(3) for seed in range(3)),
        samples_seen=(1_280_000,),
        batch_size=(128,),
    ),
}


def experiment(profile: str) -> Experiment:
    scale = {"backbone": BACKBONES, **SCALE[profile]}
    replicates = scale.pop("replicates")
    sizes = scale.pop("size")
    return Experiment(
        question="Is the CNN's lead at few labels made of locality?",
        note="Rearrangements are fixed and the same for all images; patches of 4 pixels are the ViT's own.",
        runs=tuple(
            run
            for size in sizes
            for draw, seed in replicates
            for run in grid(ONE, size=(size,), draw=(draw,), seed=(seed,), intervention=ARMS, **scale)
        ),
    )
