"""How priors become changes of a model, and that a run's model has them."""

import pytest
import torch
from torch import nn

from bias_lab import catalogue
from bias_lab.backbones import create
from bias_lab.backbones.priors import interface
from bias_lab.errors import UserError

MODELS = [(name, row) for row in catalogue.PRIORS.values() for name in catalogue.BACKBONES if name.endswith("_micro")]
CELLS = [(name, row.name) for name, row in MODELS if catalogue.architecture(name) in row.architectures]


def micro(name: str, priors: str, side: int = 28) -> nn.Module:
    torch.manual_seed(0)
    return create(name, image_size=side, channels=1, classes=10, priors=priors)


class Recorder:
    """A prior that takes a number, and records when it is asked."""

    calls: list[tuple[str, object]]

    def __init__(self, number: int | None) -> None:
        self.number = number

    def keywords(self) -> dict[str, object]:
        self.calls.append(("keywords", self.number))
        return dict(depth=self.number)

    def change(self, model: nn.Module) -> None:
        self.calls.append(("change", len(model.blocks)))  # type: ignore[arg-type]


def test_a_new_prior_needs_a_row_and_a_class_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    row = catalogue.Prior(
        name="blocks", module=f"{__name__}:Recorder", words="-", architectures=("vit",), why="-", number="depth"
    )
    monkeypatch.setitem(catalogue.PRIORS, "blocks", row)
    monkeypatch.setattr(Recorder, "calls", [], raising=False)
    assert len(micro("vit_micro", "blocks:2").blocks) == 2  # type: ignore[arg-type]
    assert Recorder.calls == [("keywords", 2), ("change", 2)]


@pytest.mark.parametrize(("name", "prior"), CELLS)
@pytest.mark.parametrize("side", [28, 32])
def test_a_prior_keeps_the_interface_and_trains(name: str, prior: str, side: int) -> None:
    model, images = micro(name, prior, side), torch.randn(4, 1, side, side)
    assert model(images).shape == (4, 10)
    features = model.forward_features(images)
    assert model.forward_head(features, pre_logits=True).shape == (4, model.head_hidden_size)
    maps = model.forward_intermediates(images, intermediates_only=True)
    assert [y.shape[2] for y in maps] == [-(-side // info["reduction"]) for info in model.feature_info]
    model(images).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_two_priors_of_one_model_work_together() -> None:
    model = micro("vit_micro", "mean_pooling+sincos_positions")
    assert model.cls_token is None
    assert not model.pos_embed.requires_grad
    assert model.pos_embed.shape == (1, 49, 96)
    again = micro("vit_micro", "mean_pooling+sincos_positions")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_no_prior_changes_nothing() -> None:
    plain = create("vit_micro", image_size=28, channels=1, classes=10)
    assert set(plain.state_dict()) == set(micro("vit_micro", "").state_dict())
    assert interface.made("") == []


@pytest.mark.parametrize(
    ("name", "priors", "message"),
    [
        ("vit_micro", "no_batch_norm", "vit_micro can't take the prior 'no_batch_norm'"),
        ("timm:vit_tiny_patch16_224", "mean_pooling", "can't take the prior 'mean_pooling'"),
        ("vit_micro", "sincos_positions+mean_pooling", "not sorted"),
        ("vit_micro", "sincos", "unknown prior"),
    ],
)
def test_what_planning_refuses_can_not_be_built_either(name: str, priors: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        create(name, image_size=28, channels=1, classes=10, priors=priors)
