"""Exact masking ratios and independent masks."""

import pytest
import torch

from bias_lab.training.regimes import masking


@pytest.mark.parametrize(
    ("tokens", "ratio", "masked"),
    [
        (196, 0.75, 147),
        (49, 0.75, 37),
        (49, 0.6, 30),
        (10, 0.9, 9),
        (5, 0.6, 3),
        (25, 0.28, 7),  # 7.000000000000001 in floating point
        (64, 0.5, 32),
        (49, 0.0, 0),
        (4, 0.99, 3),
    ],
)
def test_a_ratio_masks_exactly_so_many(tokens: int, ratio: float, masked: int) -> None:
    assert masking.masked_count(tokens, ratio) == masked
    assert masking.random_mask(32, tokens, ratio).sum(1).tolist() == [masked] * 32


def test_each_image_has_a_mask_of_its_own_and_every_place_its_share() -> None:
    mask = masking.random_mask(4000, 16, 0.75, generator=torch.Generator().manual_seed(3))
    assert len({tuple(row) for row in mask.tolist()}) > 1000
    # of 4000 draws with probability 0.75, a place's share lies within 5 standard deviations of it
    assert mask.mean(0).sub(0.75).abs().max() < 5 * (0.75 * 0.25 / 4000) ** 0.5


def test_a_mask_follows_the_generator_and_nothing_else() -> None:
    draws = [masking.random_mask(8, 49, 0.75, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*draws)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    masking.random_mask(8, 49, 0.75, generator=torch.Generator().manual_seed(5))
    assert torch.equal(state, torch.get_rng_state())
