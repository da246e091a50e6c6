"""Mean pooling, against timm's plain ViT."""

import timm
import torch

from bias_lab.backbones import create


def test_mean_pooling_is_timms(same_computation, same_names) -> None:
    theirs = timm.create_model(
        "vit_tiny_patch16_224", img_size=28, patch_size=4, in_chans=1, embed_dim=96, depth=4, num_heads=3,
        num_classes=10, class_token=False, global_pool="avg",
    )  # fmt: skip
    ours = create("vit_micro", image_size=28, channels=1, classes=10, priors="mean_pooling")
    same_names(ours, theirs)
    same_computation(ours, theirs, torch.randn(3, 1, 28, 28))


def test_the_classifier_reads_the_mean_of_the_patches() -> None:
    torch.manual_seed(0)
    model = create("vit_micro", image_size=28, channels=1, classes=10, priors="mean_pooling").eval()
    tokens = torch.randn(2, 49, 96)
    with torch.no_grad():
        pooled = model.forward_head(tokens, pre_logits=True)
        torch.testing.assert_close(pooled, model.fc_norm(tokens.mean(1)))
        shuffled = tokens[:, torch.randperm(49)]
        torch.testing.assert_close(model.forward_head(shuffled, pre_logits=True), pooled)  # every place counts alike
