"""Published layouts give timm's features or are refused with the reason. Sets and prefixes are found where they lie."""

import itertools
from pathlib import Path

import pytest
import torch
from timm import create_model
from torch import Tensor, nn

from bias_lab.backbones import create
from bias_lab.errors import UserError
from bias_lab.training.weights.layouts import foreign, nesting
from bias_lab.training.weights.load import load
from tests.training.weights.published import LAYOUTS, Layout, prefixed, random_model, saved

DOCS = Path(__file__).parents[3] / "docs" / "weights.md"


def features(model: nn.Module, side: int = 224) -> Tensor:
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval().forward_head(model.forward_features(images), pre_logits=True)


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference over the largest value."""
    return float((one - other).abs().max() / other.abs().max())


FAST = ("DINO", "ResNet of torchvision", "EfficientNet of torchvision", "MobileViT of ml-cvnets")  # others take seconds


@pytest.mark.parametrize(
    "layout",
    [pytest.param(row, id=row.words, marks=() if row.words.startswith(FAST) else pytest.mark.slow) for row in LAYOUTS],
)
def test_a_published_layout_gives_timms_features_or_is_refused_with_the_reason(layout: Layout, tmp_path: Path) -> None:
    theirs = random_model(layout.model or layout.backbone)
    path = saved(layout.write(dict(theirs.state_dict())), tmp_path / "published.pth")
    ours = create(layout.backbone, image_size=224, channels=3, classes=10)
    if layout.refused:
        with pytest.raises(UserError, match=layout.refused) as caught:
            load(ours, path)
        assert "\n" not in str(caught.value)
        assert "published.pth" in str(caught.value)
        return
    outcome = load(ours, path)
    assert outcome.lacking == outcome.beyond == ()
    assert difference(features(ours), features(theirs)) < 1e-5


def test_the_docs_have_a_row_for_every_layout() -> None:
    rows = [line.split("|") for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    documented = {row[1].strip(): row[2].strip().split()[0].rstrip(",:") for row in rows}
    assert documented == {layout.words: "refused" if layout.refused else "loaded" for layout in LAYOUTS}


# --- containers and prefixes -----------------------------------------------------------------------------------------


def vit(**keywords: object) -> nn.Module:
    sizes = dict(img_size=16, patch_size=4, in_chans=3, embed_dim=32, depth=2, num_heads=2, num_classes=5)
    return create_model("vit_tiny_patch16_224", **(sizes | keywords))


def encoder(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: torch.randn_like(tensor) for name, tensor in vit(num_classes=0).state_dict().items()}


RIGHT, WRONG = encoder(1), encoder(2)
CONTAINERS = {  # what a file holds, and the words that say what was taken
    "state_dict": ({"state_dict": RIGHT, "epoch": 3}, "set 'state_dict' taken"),
    "net": ({"net": RIGHT, "acc": 91.2, "epoch": 3}, "set 'net' taken"),
    "model_ema": ({"model": WRONG, "model_ema": RIGHT}, "set 'model_ema' taken and not 'model'"),
    "state_dict_ema": (
        {"state_dict_ema": RIGHT, "state_dict": WRONG},
        "set 'state_dict_ema' taken and not 'state_dict'",
    ),
    "student, teacher": ({"student": WRONG, "teacher": RIGHT}, "set 'teacher' taken and not 'student'"),
    "nested": ({"checkpoint": {"model": {"module": RIGHT}}}, "set 'checkpoint.model.module' taken"),
    "flat student and teacher": (
        {"state_dict": prefixed(WRONG, "student.backbone.") | prefixed(RIGHT, "teacher.backbone.")},
        "set 'state_dict.teacher.backbone' taken and not 'student'",
    ),
    "an optimizer": ({"model": RIGHT, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}, "set 'model' taken"),
    "a student alone": ({"student": RIGHT, "loss": {"center": torch.zeros(1, 8)}}, "set 'student' taken"),
    "bare": (RIGHT, ""),
}


@pytest.mark.parametrize("case", CONTAINERS)
def test_a_set_is_found_under_any_key_and_said(case: str, tmp_path: Path) -> None:
    content, words = CONTAINERS[case]
    model = vit()
    outcome = load(model, saved(content, tmp_path / "a.pth"))
    assert outcome.set == words
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in RIGHT.items())


WRAPPERS = ("module.", "model.", "backbone.", "encoder.", "_orig_mod.")


@pytest.mark.parametrize("pair", [*itertools.permutations(WRAPPERS, 2), ("module.", "model.", "my_encoder.trunk.")])
def test_any_nesting_of_prefixes_is_stripped(pair: tuple[str, ...], tmp_path: Path) -> None:
    prefix = "".join(pair)
    model = vit()
    outcome = load(model, saved({"state_dict": prefixed(RIGHT, prefix)}, tmp_path / "a.ckpt"))
    assert len(outcome.loaded) == len(RIGHT)
    said = prefix.replace("_orig_mod.", "").rstrip(".")  # which PyTorch puts anywhere, so it is not named
    assert outcome.set == f"set 'state_dict.{said}' taken"


def test_wrappers_of_single_blocks_are_stripped_too(tmp_path: Path) -> None:
    compiled = {name.replace("blocks.1.", "blocks.1._orig_mod."): tensor for name, tensor in RIGHT.items()}
    assert len(load(vit(), saved(compiled, tmp_path / "a.pth")).loaded) == len(RIGHT)


@pytest.mark.slow
def test_a_prefix_before_a_layout_that_timm_converts_is_stripped(tmp_path: Path) -> None:
    layout = next(one for one in LAYOUTS if one.backbone.startswith("swin"))
    theirs = random_model(layout.backbone)
    tensors = prefixed(layout.write(dict(theirs.state_dict()))["model"], "module.backbone.")
    ours = create(layout.backbone, image_size=224, channels=3, classes=10)
    assert "converted by timm" in load(ours, saved({"state_dict": tensors}, tmp_path / "a.pth")).set
    assert difference(features(ours), features(theirs)) < 1e-5


def small_swin(**keywords: object) -> nn.Module:
    sizes = dict(img_size=32, patch_size=2, embed_dim=16, depths=(2, 1), num_heads=(1, 2), window_size=4, num_classes=3)
    return random_model("swin_tiny_patch4_window7_224", **(sizes | keywords))


def test_official_swin_files_merge_at_another_place(tmp_path: Path) -> None:
    layout = next(one for one in LAYOUTS if one.backbone.startswith("swin"))
    theirs = small_swin()
    ours = create_model(
        "bias_lab_swin_tiny_patch4_window7_224", img_size=32, patch_size=2, embed_dim=16, depths=(2, 1),
        num_heads=(1, 2), window_size=4, num_classes=5,
    )  # fmt: skip
    path = saved(layout.write(dict(theirs.state_dict())), tmp_path / "a.pth")
    outcome = load(ours, path)
    assert (outcome.lacking, outcome.set) == ((), "set 'model' taken, converted by timm")
    assert difference(features(ours, 32), features(theirs, 32)) < 1e-5


def test_two_sets_that_no_rule_tells_apart_are_refused(tmp_path: Path) -> None:
    content = {"first": RIGHT, "second": WRONG}
    with pytest.raises(UserError, match="two sets of weights that fit equally well: 'first' and 'second'"):
        load(vit(), saved(content, tmp_path / "a.pth"))
    load(vit(), saved({"first": RIGHT, "second": dict(RIGHT)}, tmp_path / "b.pth"))  # the same values


def test_the_nesting_of_wrappers_is_what_most_names_begin_with() -> None:
    assert nesting(["model.a.weight", "model.a.bias", "b.bias"]) == "model."
    assert nesting(["model.a.weight", "b.bias"]) == nesting([]) == ""


def test_foreign_names_are_told() -> None:
    assert foreign(["module.features.0.0.weight"]) == "torchvision's EfficientNet or MobileNetV3"
    assert foreign(["blocks.0.norm1.weight"]) == ""
