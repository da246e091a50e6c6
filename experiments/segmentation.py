"""Does the shortfall of the plain ViT hold where every pixel is classified, and is it the encoder's or the head's?

Question: the shortfall is the mean IoU of ResNet minus that of the plain ViT, trained from scratch on few images with
masks. With its own head a ViT reads out its last map linearly, and a ResNet has a U-Net. With the matched head both
have one decoder of about the same size. How large is the shortfall with each, and so which part of it comes from the
heads and which from the encoders?
Runs: `laptop` draws shapes whose masks are exact and whose colours mean nothing, at 48 px, and needs no download: own
and matched heads at equal images, and own heads settled at one size. `laptop_camvid` repeats the part at equal images
on CamVid, 96 x 128, where the ViT's patches are 8 px wide. `desk` settles ViT and ResNet on CamVid, and adds Swin,
MobileViT, and a ViT after MAE on the pool's images. Draws are disjoint blocks of the pool. 294 images are all that
leave the hold-out alone: they allow one draw, whose seeds share their images. Frames of CamVid depend on one another,
so its intervals are over groups of frames (see the docs). Mixing images and the wide augmentations have no meaning for
masks, so the recipe is `plain`.
Expected: the CNN is ahead, by less with the matched head.
The answer would be different if the interval of the shortfall with the matched head contained 0 at every size, since
the lead would then be the decoder's.
Cost on two slow cores, as the dry run counts it: laptop 27 minutes, laptop_camvid 35, desk 2.5 hours with its trials,
but without its settled budgets, which are not known yet.
The tuned values of laptop and laptop_camvid are part of the package. Tuning (--tune) comes first elsewhere.
Run it: bias-lab sweep segmentation --tune [--profile smoke|laptop|laptop_camvid|desk|full] [--data-root FOLDER with
camvid]
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bias_lab.definition import LADDER, Experiment, Ladder, Run, choose_profile, grid, run_id

PAIR = ("vit", "resnet")
OTHERS = ("swin", "mobilevit")
HEADS = ("", "matched")  # the backbone's own head, and one decoder for all


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How big a profile is. Numbers of replicates are numbers of disjoint draws, unless `blocks` is 0."""

    dataset: str
    equal: Mapping[int, int] = field(default_factory=dict)  # labelled images → images seen by every backbone
    settled: Mapping[int, int] = field(default_factory=dict)  # labelled images → replicates of the pair with own heads
    one_draw: Mapping[int, int] = field(default_factory=dict)  # the same of draw 0, whose replicates are seeds
    others_at: tuple[int, ...] = ()  # sizes of the other backbones with the matched head
    mae_at: tuple[int, ...] = ()  # sizes after MAE
    replicates: int = 3
    blocks: int = 3
    size_of: str = "micro"  # suffix of every backbone's name
    patch: int | None = None  # side of the ViT's patches in pixels (None: chosen by its number of patches)
    learning_rate: float | None = None  # None: the tuned one
    pretraining: Mapping[str, Any] = field(default_factory=dict)
    ladder: Ladder = LADDER


PROFILES = {
    "smoke": Scale(
        dataset="shape_masks",
        equal={20: 64},
        replicates=1,  # one replicate gives no interval
        blocks=0,
        learning_rate=1e-3,
    ),
    "laptop": Scale(
        dataset="shape_masks",
        equal={30: 6_000, 100: 6_000},
        settled={100: 3},
        ladder=Ladder(first=6_000, cap=192_000),
    ),
    "laptop_camvid": Scale(dataset="camvid", equal={30: 6_000, 90: 6_000}, patch=8),
    "desk": Scale(
        dataset="camvid",
        patch=8,
        settled={90: 3},
        one_draw={294: 3},
        equal={90: 6_000},
        others_at=(90,),
        mae_at=(90,),
        pretraining=dict(samples_seen=20_000, batch_size=64, learning_rate=2e-3),
        ladder=Ladder(first=6_000, cap=48_000),
    ),
    "full": Scale(
        dataset="camvid",
        patch=8,
        settled={30: 3, 90: 3},
        one_draw={294: 5},
        equal={30: 64_000, 90: 64_000},
        others_at=(30, 90),
        mae_at=(90,),
        size_of="mini",
        pretraining=dict(samples_seen=400_000, batch_size=128, learning_rate=1.5e-3),
        ladder=Ladder(first=16_000, cap=512_000),
    ),
}


def experiment(profile: str) -> Experiment:
    scale = choose_profile(PROFILES, profile)
    return Experiment(
        question="Does the shortfall of the plain ViT hold where every pixel is classified?",
        runs=tuple(dict.fromkeys(study(scale))),
        ladder=scale.ladder,
    )


def study(scale: Scale) -> tuple[Run, ...]:
    """Return the runs of one profile: first the settled pair, then both heads at equal images, then the others."""
    vit, resnet, *others = (f"{name}_{scale.size_of}" for name in (*PAIR, *OTHERS))
    one = Run(task="segment", dataset=scale.dataset, backbone=vit, size=1, batch_size=16, optimizer="muon")
    one = replace(one, learning_rate=scale.learning_rate)
    open_run = replace(one, samples_seen=None)
    draws = tuple((k, k) for k in range(scale.replicates))

    def cells(run: Run, backbones: tuple[str, ...], heads: tuple[str, ...] = ("",)) -> tuple[Run, ...]:
        return grid(replace(run, blocks=scale.blocks), replicate=draws, head=heads, backbone=backbones)

    def patched(runs: tuple[Run, ...]) -> tuple[Run, ...]:
        return tuple(replace(run, patch=scale.patch) if run.backbone == vit else run for run in runs)

    runs: list[Run] = []
    for size, count in scale.settled.items():
        settled = replace(open_run, size=size, blocks=scale.blocks)
        runs += patched(grid(settled, replicate=draws[:count], backbone=(vit, resnet)))
    for size, seen in scale.equal.items():
        runs += patched(cells(replace(one, size=size, samples_seen=seen), (vit, resnet), HEADS))
    for size, count in scale.one_draw.items():
        runs += patched(grid(replace(open_run, size=size), seed=range(count), backbone=(vit, resnet)))
    for size in scale.others_at:
        runs += cells(replace(one, size=size, samples_seen=scale.equal[size]), tuple(others), HEADS[1:])
    for size in scale.mae_at:
        runs += after_mae(patched(cells(replace(one, size=size, samples_seen=scale.equal[size]), (vit,))), scale)
    return tuple(runs)


def after_mae(runs: tuple[Run, ...], scale: Scale) -> tuple[Run, ...]:
    """Return a MAE pretraining on the pool's images for each run, and the run that starts from it."""
    made: list[Run] = []
    for run in runs:
        start = replace(run, regime="mae", source="pool")
        pretraining = replace(start, task="pretrain", size=0, blocks=0, draw=0, optimizer="adamw", **scale.pretraining)
        made += [pretraining, replace(start, pretraining=run_id(pretraining))]
    return tuple(made)
