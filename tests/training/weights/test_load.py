"""Weights from files and names are loaded exactly where they fit and listed where not. Bad files get one line."""

import pickle
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm import create_model
from timm.layers import resample_abs_pos_embed
from timm.models.swin_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from bias_lab.backbones import create
from bias_lab.backbones.vit import SIZES, VisionTransformer
from bias_lab.errors import UserError
from bias_lab.training import weights

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "weights"
DEIT = REAL / "deit_tiny_patch16_224.fp16.safetensors"
LITE = REAL / "tf_efficientnet_lite0.fp16.safetensors"
needs_files = pytest.mark.skipif(not DEIT.is_file(), reason="the real weights are not beside the repository")


def vit(**keywords: object) -> nn.Module:
    sizes = dict(img_size=16, patch_size=4, in_chans=3, embed_dim=32, depth=2, num_heads=2, num_classes=5)
    return create_model("vit_tiny_patch16_224", **(sizes | keywords))


def saved(model: nn.Module, path: Path) -> Path:
    save_file(model.state_dict(), path)
    return path


def test_the_same_model_is_filled_but_for_its_classifier(tmp_path: Path) -> None:
    source, target = vit(), vit()
    before = target.head.weight.clone()
    outcome = weights.load(target, saved(source, tmp_path / "a.safetensors"))
    assert outcome.skipped == outcome.missing == ("head.bias", "head.weight")
    assert outcome.resampled == ()
    assert set(outcome.loaded) | set(outcome.skipped) == set(source.state_dict())
    assert torch.equal(target.head.weight, before)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(target.eval().forward_features(images), source.eval().forward_features(images))


def test_the_classifier_is_loaded_on_request(tmp_path: Path) -> None:
    source, target = vit(), vit()
    assert weights.load(target, saved(source, tmp_path / "a.safetensors"), head=True).missing == ()
    assert torch.equal(target.head.weight, source.head.weight)


def test_position_embeddings_are_resampled_to_the_grid_and_the_class_token_s_is_kept(tmp_path: Path) -> None:
    source, target = vit(), vit(img_size=(24, 32))
    outcome = weights.load(target, saved(source, tmp_path / "a.safetensors"))
    assert outcome.resampled == ("pos_embed",)
    expected = resample_abs_pos_embed(source.pos_embed.detach(), [6, 8], num_prefix_tokens=1)
    torch.testing.assert_close(target.pos_embed.detach(), expected)
    torch.testing.assert_close(target.pos_embed[:, 0], source.pos_embed[:, 0])


def test_a_model_without_class_token_takes_the_patches_positions(tmp_path: Path) -> None:
    source, target = vit(), vit(class_token=False, global_pool="avg")
    outcome = weights.load(target, saved(source, tmp_path / "a.safetensors"))
    assert "cls_token" in outcome.skipped
    torch.testing.assert_close(target.pos_embed, source.pos_embed[:, 1:])


def test_grey_images_get_the_sum_of_three_channels_and_another_patch_is_resampled(tmp_path: Path) -> None:
    source, target = vit(), vit(in_chans=1)
    path = saved(source, tmp_path / "a.safetensors")
    assert weights.load(target, path).resampled == ("patch_embed.proj.weight",)
    grey = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(
        target.patch_embed(grey), source.patch_embed(grey.expand(-1, 3, -1, -1)), atol=1e-5, rtol=1e-5
    )
    larger = vit(patch_size=8)
    assert weights.load(larger, path).resampled == ("patch_embed.proj.weight", "pos_embed")
    one = torch.randn(5, 3, 4, 4)  # an enlarged patch gives the same as before, which is FlexiViT's criterion
    enlarged = nn.functional.interpolate(one, size=(8, 8), mode="bicubic", antialias=True)
    torch.testing.assert_close(larger.patch_embed.proj(enlarged), source.patch_embed.proj(one), atol=1e-5, rtol=1e-4)


def test_swin_s_relative_positions_take_another_window(tmp_path: Path) -> None:
    sizes = dict(img_size=32, patch_size=2, in_chans=3, embed_dim=16, depths=(2,), num_heads=(2,), num_classes=0)
    source = create_model("swin_tiny_patch4_window7_224", window_size=4, **sizes)
    target = create_model("swin_tiny_patch4_window7_224", window_size=8, **sizes)
    outcome = weights.load(target, saved(source, tmp_path / "a.safetensors"))
    name = "layers.0.blocks.0.attn.relative_position_bias_table"
    assert name in outcome.resampled
    old, new = source.state_dict()[name].reshape(7, 7, 2), target.state_dict()[name].reshape(15, 15, 2)
    torch.testing.assert_close(new[7, 7], old[3, 3])  # the offset 0 keeps its value
    theirs = create_model("swin_tiny_patch4_window7_224", window_size=8, **sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # timm's, of a tensor that is not contiguous
        expected = checkpoint_filter_fn(dict(source.state_dict()), theirs)[name]
    torch.testing.assert_close(new.reshape(-1, 2), expected)


def test_a_modified_vit_takes_what_fits_of_a_plain_one_s(tmp_path: Path) -> None:
    class Modified(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = vit().blocks
            self.gate = nn.Parameter(torch.ones(3))

    outcome = weights.load(Modified(), saved(vit(), tmp_path / "a.safetensors"))
    assert outcome.missing == ("gate",)
    assert set(outcome.loaded) == {name for name in vit().state_dict() if name.startswith("blocks.")}


@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_a_pth_may_be_wrapped_and_prefixed(tmp_path: Path, wrapper: str, prefix: str) -> None:
    tensors = {prefix + name: tensor for name, tensor in vit().state_dict().items()}
    path = tmp_path / "a.pth"
    torch.save({wrapper: tensors, "epoch": 3} if wrapper else tensors, path)
    outcome = weights.load(vit(), path)
    assert len(outcome.loaded) == len(tensors) - 2


def test_weights_of_which_none_fits_are_an_error_that_shows_both_sides(tmp_path: Path) -> None:
    path = saved(nn.Sequential(nn.Linear(2, 2)), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"none of the 2 tensors of a.safetensors fits VisionTransformer"):
        weights.load(vit(), path)


def test_weights_of_another_architecture_are_named_by_their_keys_and_the_nearest_name(tmp_path: Path) -> None:
    path = saved(create("swin_micro", image_size=28, channels=3, classes=10), tmp_path / "a.safetensors")
    message = r"missing: cls_token, pos_embed, .* more; surplus: .* more; they look like swin_micro's$"
    with pytest.raises(UserError, match=message):
        weights.load(create("vit_micro", image_size=28, channels=3, classes=10), path)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("harm"),)


DAMAGED = {  # each raises another exception when it is read
    "stop": b".",
    "header": b"\x80\x02.",
    "letters": b"a" * 100,
    "key": b"\x80\x02}q\x00(X",
}


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    whole = saved(vit(), folder / "whole.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "text.pth").write_text("not a checkpoint")
    (folder / "empty.pth").write_bytes(b"")
    torch.save(vit().state_dict(), folder / "whole.pth")
    (folder / "cut.pth").write_bytes((folder / "whole.pth").read_bytes()[:3000])
    (folder / "code.pth").write_bytes(pickle.dumps({"a": Harmful()}))
    torch.save({"a": Harmful()}, folder / "zipcode.pth")
    for name, content in DAMAGED.items():
        (folder / f"{name}.pth").write_bytes(content)
    torch.save([1, 2], folder / "list.pth")
    torch.save({"epoch": 1}, folder / "bare.pth")
    return {
        "missing": (folder / "absent.safetensors", "there is no weights file"),
        "cut": (folder / "cut.safetensors", "not a whole .safetensors file"),
        "empty": (folder / "empty.safetensors", "not a whole .safetensors file"),
        "text": (folder / "text.pth", "could run code|not a whole PyTorch file"),
        "empty pth": (folder / "empty.pth", "not a whole PyTorch file"),
        "cut pth": (folder / "cut.pth", "not a whole PyTorch file"),
        "code": (folder / "code.pth", "could run code|not a whole PyTorch file"),
        "code in a zip": (folder / "zipcode.pth", "could run code"),
        **{name: (folder / f"{name}.pth", "not a whole PyTorch file") for name in DAMAGED},
        "list": (folder / "list.pth", "holds a list"),
        "bare": (folder / "bare.pth", "holds no tensors"),
    }


def test_bad_files_get_one_line_and_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for case, (path, message) in bad_files(tmp_path).items():
        with pytest.raises(UserError, match=message) as caught:
            weights.load(vit(), path)
        assert "\n" not in str(caught.value), case
        assert path.name in str(caught.value), case
    assert not (tmp_path / "harm").exists()


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown weights 'deit_tinny_patch16_224'; did you mean 'deit_tiny"):
        weights.load(vit(), "deit_tinny_patch16_224")


def test_a_name_whose_weights_cannot_be_fetched_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **keywords: object) -> nn.Module:
        raise FileNotFoundError("cannot find the requested files in the local cache\nmore lines")

    monkeypatch.setattr(weights.timm, "create_model", offline)
    with pytest.raises(UserError, match=r"can't be fetched \(cannot find the requested files in the local cache\)"):
        weights.load(vit(), "resnet18")


@pytest.mark.parametrize("prefix", ["hf-hub:", "hf_hub:"])
def test_a_name_on_the_hub_is_fetched_and_brings_its_normalisation(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hub(name: str, *, pretrained: bool) -> nn.Module:
        assert pretrained
        assert name == f"{prefix}timm/deit_tiny_patch16_224.fb_in1k"
        model = vit()
        model.pretrained_cfg = dict(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])  # read from JSON
        return model

    monkeypatch.setattr(weights.timm, "create_model", hub)
    outcome = weights.load(vit(), f"{prefix}timm/deit_tiny_patch16_224.fb_in1k")
    assert (outcome.mean, outcome.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert outcome.skipped == ("head.bias", "head.weight")


def test_grey_images_get_the_average_normalisation() -> None:
    known = weights.Loaded(
        name="", loaded=(), skipped=(), resampled=(), missing=(), mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3)
    )
    assert weights.normalisation_for(known, 3) == (known.mean, known.std)
    assert weights.normalisation_for(known, 1) == (pytest.approx((0.5,)), pytest.approx((0.2,)))
    assert (
        weights.normalisation_for(weights.Loaded(name="", loaded=(), skipped=(), resampled=(), missing=()), 3) is None
    )


def logits(model: nn.Module) -> Tensor:
    with torch.inference_mode():
        return model.eval()(torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)))


@needs_files
def test_deit_s_real_weights_fit_our_vit_strictly_and_give_timm_s_logits() -> None:
    ours = VisionTransformer(**SIZES["vit_tiny_patch16_224"])
    theirs = create_model("deit_tiny_patch16_224")
    outcome = weights.load(ours, DEIT, head=True)
    assert outcome.skipped == outcome.missing == outcome.resampled == ()
    assert outcome.mean == (0.485, 0.456, 0.406)  # DeiT's own, though vit_tiny_patch16_224 has 0.5 in timm
    theirs.load_state_dict(weights.read(DEIT).tensors, strict=True)
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-4, rtol=0)


@needs_files
def test_efficientnet_s_real_weights_fit_with_another_head_and_bring_their_normalisation() -> None:
    model = create_model("tf_efficientnet_lite0", num_classes=8)
    outcome = weights.load(model, LITE)
    assert outcome.skipped == outcome.missing == ("classifier.bias", "classifier.weight")
    assert outcome.mean == outcome.std == (0.5, 0.5, 0.5)


@needs_files
def test_real_weights_at_64_px_resample_their_positions() -> None:
    model = VisionTransformer(**(SIZES["deit_tiny_patch16_224"] | dict(img_size=64, num_classes=8)))
    outcome = weights.load(model, DEIT)
    assert outcome.resampled == ("pos_embed",)
    assert model.pos_embed.shape == (1, 17, 192)
