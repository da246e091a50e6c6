"""Fixed positions, against the formula and through an optimizer."""

import numpy as np
import pytest
import torch

from bias_lab.backbones import create
from bias_lab.backbones.priors import positions
from bias_lab.training import optimizer


def by_the_formula(rows: int, columns: int, width: int) -> np.ndarray:
    """Return MAE's and MoCo v3's embedding, value by value: (rows*columns, width)."""
    table = np.zeros((rows * columns, width))
    quarter = width // 4
    for row in range(rows):
        for column in range(columns):
            for half, place in enumerate((row, column)):
                for k in range(quarter):
                    angle = place / 10_000 ** (k / quarter)
                    table[row * columns + column, half * 2 * quarter + k] = np.sin(angle)
                    table[row * columns + column, half * 2 * quarter + quarter + k] = np.cos(angle)
    return table


@pytest.mark.parametrize("shape", [(3, 5, 8), (7, 7, 96), (1, 1, 4)])
def test_sines_and_cosines_are_those_of_the_formula(shape: tuple[int, int, int]) -> None:
    np.testing.assert_allclose(positions.sine_cosine(*shape).numpy(), by_the_formula(*shape), atol=1e-5)


def test_a_width_that_holds_no_two_directions_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        positions.sine_cosine(2, 2, 6)


def test_a_vit_is_told_where_its_patches_are_and_its_class_token_has_no_place() -> None:
    model = create("vit_micro", image_size=32, channels=3, classes=10, priors="sincos_positions")
    np.testing.assert_allclose(model.pos_embed[0, 1:].numpy(), by_the_formula(8, 8, 96), atol=1e-5)
    assert model.pos_embed[0, 0].abs().max() == 0
    assert set(model.state_dict()) == set(create("vit_micro", image_size=32, channels=3, classes=10).state_dict())


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_training_leaves_the_positions_as_they_are(kind: str, layer_decay: float) -> None:
    torch.manual_seed(0)
    model = create("vit_micro", image_size=28, channels=1, classes=10, priors="sincos_positions")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    made = optimizer.configure(
        model, learning_rate=1e-2, weight_decay=0.5, steps=10, warmup=0.0, layer_decay=layer_decay, optimizer=kind
    )
    for _ in range(2):
        model(torch.randn(4, 1, 28, 28)).square().sum().backward()
        made["optimizer"].step()
    assert torch.equal(model.pos_embed, before["pos_embed"])
    assert not torch.equal(model.blocks[0].attn.qkv.weight, before["blocks.0.attn.qkv.weight"])
