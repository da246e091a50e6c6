"""Test what each intervention keeps and destroys, and that fixed ones are equal for all images and runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bias_lab import catalogue
from bias_lab.data import batches
from bias_lab.data.augment import At
from bias_lab.data.interventions import EVALUATION, intervene, sheet
from bias_lab.definition import Run
from bias_lab.errors import UserError

B, C, SIDE = 6, 3, 12


def images() -> Tensor:
    x = torch.randn(B, C, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def at(step: int = 0) -> At:
    return At(0, step, np.arange(B))


def sorted_pixels(x: Tensor) -> Tensor:
    """Return each image's pixels sorted by the first channel, whose values all differ: (B, H*W, C)."""
    flat = x.flatten(2).transpose(1, 2)
    return flat.gather(1, flat[..., :1].argsort(1).expand_as(flat))


@pytest.mark.parametrize("text", ["permute_pixels", "permute_pixels:3", "permute_patches:4", "shuffle_patches:3"])
def test_permutations_keep_every_pixel_with_its_channels(text: str) -> None:
    x = images()
    moved = intervene(x, text, at())
    assert not torch.equal(moved, x)
    assert torch.equal(sorted_pixels(moved), sorted_pixels(x))
    assert moved.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("text", ["permute_pixels", "permute_patches:4"])
def test_fixed_permutations_are_one_for_all_images_steps_and_splits(text: str) -> None:
    x = images()[:1].expand(B, C, SIDE, SIDE)
    here = intervene(x, text, at(0))
    assert torch.equal(here, here[:1].expand_as(here))
    assert torch.equal(here, intervene(x, text, At(5, EVALUATION, np.arange(B) + 99)))


def test_different_numbers_are_different_permutations() -> None:
    assert not torch.equal(intervene(images(), "permute_pixels:1", at()), intervene(images(), "permute_pixels:2", at()))


def test_pixel_permutation_leaves_no_neighbourhood() -> None:
    ramp = torch.arange(SIDE * SIDE).float().reshape(1, 1, SIDE, SIDE)
    moved = intervene(ramp, "permute_pixels", At(0, 0, np.arange(1)))
    steps = (moved[0, 0, :, 1:] - moved[0, 0, :, :-1]).abs()
    assert (steps == 1).float().mean() < 0.1


def test_patches_stay_whole() -> None:
    x = images()
    moved = intervene(x, "permute_patches:4", at())
    cut = torch.nn.functional.unfold
    old = {tuple(patch.tolist()) for patch in cut(x[:1], 4, stride=4)[0].T}
    new = [tuple(patch.tolist()) for patch in cut(moved[:1], 4, stride=4)[0].T]
    assert set(new) == old
    assert len(new) == 9


def test_shuffled_patches_differ_between_images_and_steps() -> None:
    x = images()[:1].expand(B, C, SIDE, SIDE)
    here = intervene(x, "shuffle_patches:4", at(0))
    assert len({image.numpy().tobytes() for image in here}) == B
    assert not torch.equal(here, intervene(x, "shuffle_patches:4", at(1)))


def test_filters_split_an_image_in_two() -> None:
    x = images()
    low, high = intervene(x, "low_pass:0.4", at()), intervene(x, "high_pass:0.4", at())
    torch.testing.assert_close(low + high, x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(low.mean((2, 3)), x.mean((2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(intervene(low, "low_pass:0.4", at()), low, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("cycles", "kept"), [(1, True), (2, True), (3, False), (6, False)])
def test_the_cut_off_is_a_share_of_the_nyquist_frequency(cycles: int, kept: bool) -> None:
    """With twelve pixels, the Nyquist frequency is 6 cycles an image, and 0.4 of it is 2.4."""
    wave = torch.cos(2 * torch.pi * cycles * torch.arange(SIDE) / SIDE).expand(1, 1, SIDE, SIDE).contiguous()
    left = intervene(wave, "low_pass:0.4", At(0, 0, np.arange(1)))
    assert (float(left.abs().max()) > 0.9) == kept


def test_occlusion_hides_the_asked_share_at_places_of_its_own() -> None:
    x = images() + 10
    hidden = intervene(x, "occlude:0.25", at())
    assert torch.equal(hidden == 0, (hidden == 0).all(1, keepdim=True).expand_as(hidden))
    assert ((hidden == 0).float().mean((1, 2, 3)) == 0.25).all()
    assert len({(image == 0).numpy().tobytes() for image in hidden}) > 2


def test_shift_moves_whole_images() -> None:
    x = images()
    moved = intervene(x, "shift:3", at())
    matches = 0
    for image, old in zip(moved, x, strict=True):
        for dy in range(-3, 4):
            for dx in range(-3, 4):
                new = torch.zeros_like(old)
                new[:, max(dy, 0) : SIDE + min(dy, 0), max(dx, 0) : SIDE + min(dx, 0)] = old[
                    :, max(-dy, 0) : SIDE + min(-dy, 0), max(-dx, 0) : SIDE + min(-dx, 0)
                ]
                matches += torch.equal(new, image)
    assert matches == B


def test_nothing_is_nothing() -> None:
    x = images()
    assert intervene(x, "", at()) is x
    assert torch.equal(intervene(x, "shift:0", at()), x)


@pytest.mark.parametrize("name", catalogue.INTERVENTIONS)
def test_every_name_of_the_catalogue_works_in_training_and_testing(name: str) -> None:
    some = np.random.default_rng(0).integers(0, 256, (10, SIDE, SIDE, 1), dtype=np.uint8)
    run = Run(dataset="x", backbone="x", size=10, batch_size=4, intervention=name, mixup=0.2)
    loader = batches.Batches(some, np.arange(10), run, classes=10, mean=(0.5,), std=(0.3,), steps=2)
    x, _ = loader.batch(0)
    assert x.shape == (4, 1, SIDE, SIDE)
    first = torch.cat(
        [x for x, _ in batches.eval_loader(some, np.arange(10), run, mean=(0.5,), std=(0.3,), batch_size=3)]
    )
    again = torch.cat(
        [x for x, _ in batches.eval_loader(some, np.arange(10), run, mean=(0.5,), std=(0.3,), batch_size=10)]
    )
    torch.testing.assert_close(first, again)  # an image's view does not depend on the size of the batches


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("permute_pixel", "did you mean 'permute_pixels'?"),
        ("permute_patches:5", "patches of 5 px do not divide a 12x12 image; sides that do: 2, 3, 4, 6"),
        ("low_pass:2", "a share from 0 to 1"),
        ("permute_patches:0", "a whole number of at least 1"),
        ("shift:1.5", "a whole number"),
        ("shift:far", "is not a number"),
    ],
)
def test_what_cannot_be_says_why(text: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        intervene(images(), text, at())
    assert words in str(error.value)


def test_the_picture_in_the_docs_is_what_is_drawn() -> None:
    with Image.open(Path(__file__).parents[2] / "docs" / "interventions.png") as committed:
        same = np.asarray(committed)[30:, 180:] == np.asarray(sheet())[30:, 180:]  # the font of the words may differ
    assert same.mean() > 0.999  # the last digit of a sum may round a pixel differently on another machine
