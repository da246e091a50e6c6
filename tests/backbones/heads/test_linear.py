"""The linear head is one linear classifier at each place of the last map."""

import torch

from bias_lab.backbones.heads.interface import Map
from bias_lab.backbones.heads.linear import Linear


def test_each_place_is_classified_by_itself() -> None:
    head = Linear([Map(5, 8, 8), Map(6, 4, 3)], 7, (16, 12))
    assert head.taken == (1,)
    x = torch.randn(2, 6, 4, 3)
    weight, bias = head.classify.weight[:, :, 0, 0], head.classify.bias
    assert torch.allclose(head([x]), torch.einsum("kc,bchw->bkhw", weight, x) + bias[:, None, None], atol=1e-6)
    assert sum(p.numel() for p in head.parameters()) == 6 * 7 + 7
