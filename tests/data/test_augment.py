"""Test augmentations against the distributions of torchvision, and that each sample has its own draws."""

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision import transforms as T

from bias_lab.data import augment
from bias_lab.data.augment import At
from bias_lab.definition import FIELDS, Run

SLOTS = np.arange(1500)
GOLDEN_CROPS = [[2, 3, 24, 26], [2, 9, 25, 22], [0, 7, 24, 19], [0, 0, 18, 20]]  # top, left, height, width
GOLDEN_ERASED = [([4, 16], [16, 22]), ([1, 12], [9, 14]), ([7, 18], [3, 13]), ([10, 13], [1, 7])]  # rows, columns


def at(step: int = 0, count: int = len(SLOTS)) -> At:
    return At(7, step, SLOTS[:count])


def picture(channels: int = 3, side: int = 16) -> Tensor:
    """Return a smooth uint8 picture (side, side, channels) whose corners and channels all differ."""
    generator = torch.Generator().manual_seed(3)
    rough = torch.rand(1, channels, 4, 4, generator=generator) * 200 + 20
    smooth = torch.nn.functional.interpolate(rough, size=(side, side), mode="bilinear")
    return smooth[0].permute(1, 2, 0).to(torch.uint8)


def summaries(x: Tensor) -> np.ndarray:
    """Return moments (n, features) of images (n, H, W, C), of the whole and of its parts."""
    x = x.double().reshape(len(x), x.shape[1], x.shape[2], -1)
    h, w = x.shape[1] // 2, x.shape[2] // 2
    parts = [x, x[:, :h], x[:, h:], x[:, :, :w], x[:, :, w:], x[..., :1], (x - x.mean((1, 2), keepdim=True)) ** 2]
    return torch.stack([part.mean((1, 2, 3)) for part in parts], 1).numpy()


def same_distribution(ours: Tensor, theirs: Tensor) -> None:
    """Compare moments within the noise of n draws, and each summary by a Kolmogorov-Smirnov test (Bonferroni)."""
    a, b = summaries(ours), summaries(theirs)
    noise = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b)) + 1e-9
    assert (np.abs(a.mean(0) - b.mean(0)) < 4.5 * noise).all(), (a.mean(0), b.mean(0), noise)
    p = [stats.ks_2samp(a[:, i], b[:, i]).pvalue for i in range(a.shape[1])]
    assert min(p) > 0.001 / len(p), p


def per_image(transform: Callable[[Tensor], Tensor], image: Tensor, count: int = len(SLOTS)) -> Tensor:
    torch.manual_seed(0)
    random.seed(0)
    maps = image.permute(2, 0, 1)
    return torch.stack([transform(maps) for _ in range(count)]).permute(0, 2, 3, 1)


def repeat(image: Tensor, count: int = len(SLOTS)) -> Tensor:
    return image.expand(count, *image.shape).contiguous()


@pytest.mark.parametrize("channels", [1, 3])
def test_trivial_augment_is_torchvisions(channels: int) -> None:
    x = picture(channels)
    same_distribution(augment.trivial_augment(repeat(x), at()), per_image(T.TrivialAugmentWide(), x))


@pytest.mark.parametrize("magnitude", [5, 20])
def test_rand_augment_is_torchvisions(magnitude: int) -> None:
    x = picture()
    theirs = per_image(T.RandAugment(num_ops=2, magnitude=magnitude), x)
    same_distribution(augment.rand_augment(repeat(x), at(), magnitude), theirs)


def test_colour_jitter_is_torchvisions() -> None:
    x = picture()
    same_distribution(augment.colour_jitter(repeat(x), at(), 0.6), per_image(T.ColorJitter(0.6, 0.6, 0.6), x))


def test_erasing_is_torchvisions() -> None:
    x = picture().float() + 1
    ours = augment.erase(repeat(x).permute(0, 3, 1, 2).clone(), at(), 0.25).permute(0, 2, 3, 1)
    theirs = per_image(T.RandomErasing(p=0.25), x)
    same_distribution(ours, theirs)
    whole = (ours == x).all((1, 2, 3)).float().mean()
    assert abs(float(whole) - 0.75) < 0.04


def test_resized_crops_are_torchvisions() -> None:
    x = picture(side=24)
    cropped = augment.resized_crop(repeat(x), at(), 0.08)
    same_distribution(cropped, per_image(T.RandomResizedCrop(24, scale=(0.08, 1.0), antialias=True), x))


def test_a_long_image_falls_back_to_the_central_crop() -> None:
    top, left, h, w = augment.boxes(at(), 4, 100, 0.9)  # 90 % of the area never fits a ratio of 4/3
    assert (h == 4).all()
    assert (w == 5).all()
    assert (top == 0).all()
    assert (left == 47).all()


def test_the_boxes_of_crops_and_erasing_are_the_same_on_every_machine() -> None:
    """Other values would change the batches of finished runs."""
    boxes = np.stack(augment.boxes(at(count=4), 28, 32, 0.3), axis=1)
    assert boxes.tolist() == GOLDEN_CROPS
    erased = augment.erase(torch.ones(4, 1, 20, 24), at(count=4), 1.0)[:, 0] == 0
    corners = [
        (mask.any(1).nonzero()[[0, -1], 0].tolist(), mask.any(0).nonzero()[[0, -1], 0].tolist()) for mask in erased
    ]
    assert corners == GOLDEN_ERASED


def test_a_run_gets_the_augmentations_that_it_turns_on_and_no_others() -> None:
    x = repeat(picture(), 8)
    run = Run(dataset="x", backbone="x", size=8)
    assert augment.apply(augment.LEVELS, x, at(count=8), run) is x
    assert not torch.equal(augment.apply(augment.LEVELS, x, at(count=8), replace(run, colour_jitter=0.5)), x)
    assert {*augment.LEVELS, *augment.NORMALISED} <= {*FIELDS}


def test_a_planted_shift_of_distribution_is_caught() -> None:
    x = picture()
    with pytest.raises(AssertionError):
        same_distribution(augment.colour_jitter(repeat(x), at(), 0.5), per_image(T.ColorJitter(0.6, 0.6, 0.6), x))


@pytest.mark.parametrize(
    "change",
    [
        augment.trivial_augment,
        lambda x, a: augment.rand_augment(x, a, 9),
        lambda x, a: augment.colour_jitter(x, a, 0.4),
        lambda x, a: augment.resized_crop(x, a, 0.3),
        lambda x, a: augment.erase(x.permute(0, 3, 1, 2).float(), a, 1.0),
    ],
)
def test_every_draw_is_per_sample(change: Callable[[Tensor, At], Tensor]) -> None:
    """One picture in 64 places gives many pictures, and a place's result does not depend on its neighbours."""
    x = repeat(picture(), 64)
    changed = change(x, at(count=64))
    assert len({view.numpy().tobytes() for view in changed}) > 20
    alone = change(x[:1].clone(), At(7, 0, np.array([17])))
    assert torch.equal(alone[0], changed[17])


# --- mixing ----------------------------------------------------------------------------------------------------------


def flat(count: int) -> tuple[Tensor, Tensor]:
    """Return images that are constant at their own number, so that a mixture can be read off, and their labels."""
    return torch.arange(count).float().reshape(count, 1, 1, 1).expand(count, 1, 20, 20).clone(), torch.arange(count)


def test_mixup_blends_image_and_target_by_the_same_share_and_each_its_own() -> None:
    x, y = flat(400)
    mixed, target = augment.mix(x, y, at(count=400), classes=400, mixup=0.5, cutmix=0.0)
    torch.testing.assert_close(mixed[:, 0, 3, 5], target @ torch.arange(400).float(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(target.sum(1), torch.ones(400))
    own = target[torch.arange(400), y].double().numpy()
    assert len(set(own.tolist())) > 300
    assert stats.kstest(own, stats.beta(0.5, 0.5).cdf).pvalue > 0.001


def test_cutmix_pastes_a_box_and_counts_its_pixels() -> None:
    x, y = flat(400)
    mixed, target = augment.mix(x, y, at(count=400), classes=400, mixup=0.0, cutmix=1.0)
    own = (mixed == x).float().mean((1, 2, 3))
    torch.testing.assert_close(own, target[torch.arange(400), y])
    assert all(len(image.unique()) <= 2 for image in mixed)
    pasted = mixed[3, 0] != 3
    rows, columns = pasted.any(1).sum(), pasted.any(0).sum()
    assert pasted.sum() == rows * columns


def test_cutmix_shares_are_torchvisions() -> None:
    """torchvision draws one share a call, so 600 calls on a batch of two are compared with 600 places of a batch."""
    from torchvision.transforms import v2

    torch.manual_seed(0)
    x, y = flat(2)
    theirs = [float(v2.CutMix(alpha=1.0, num_classes=2)(x, y)[1][0, 0]) for _ in range(600)]
    x, y = flat(600)
    _, target = augment.mix(x, y, at(count=600), classes=600, mixup=0.0, cutmix=1.0)
    assert stats.ks_2samp(target[torch.arange(600), y].numpy(), theirs).pvalue > 0.001


def test_both_are_used_half_the_time_each() -> None:
    x, y = flat(1000)
    mixed, _ = augment.mix(x, y, at(count=1000), classes=1000, mixup=1.0, cutmix=1.0)
    constant = (mixed.amax((1, 2, 3)) == mixed.amin((1, 2, 3))).float().mean()
    assert 0.45 < constant < 0.58  # those by Mixup, and the few whose box is empty or the whole image


def test_a_partner_is_never_oneself_and_any_other_place() -> None:
    x, y = flat(8)
    partners = np.zeros((8, 8))
    for step in range(300):
        _, target = augment.mix(x, y, at(step, 8), classes=8, mixup=8.0, cutmix=0.0)
        partners[np.arange(8), (target * (1 - torch.eye(8))).argmax(1)] += 1
    assert partners.diagonal().max() == 0
    assert stats.chisquare(partners[~np.eye(8, dtype=bool)]).pvalue > 0.001


def test_a_batch_of_one_is_mixed_with_itself() -> None:
    x, y = flat(1)
    mixed, target = augment.mix(x, y, at(count=1), classes=2, mixup=1.0, cutmix=0.0)
    assert torch.equal(mixed, x)
    assert target.tolist() == [[1.0, 0.0]]
