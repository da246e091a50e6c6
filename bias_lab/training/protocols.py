"""What an encoder is worth as it stands: a linear probe and nearest neighbours on its features, nothing of it trained.

Both are deterministic, draw nothing at random, and give log-probabilities (M, K), so that one measure judges all
protocols. Fine-tuning is `classification.py`'s.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from bias_lab.errors import UserError

PENALTIES = tuple(10.0**k for k in range(-4, 1))  # of the squared weights; features are standardised
ROUGH = 30  # iterations that tell one penalty from another


def feature(backbone: Any, images: Tensor) -> Tensor:
    """What the classifier reads, (B, D); of a model without timm's interface, what it gives."""
    if not hasattr(backbone, "forward_head"):
        return backbone(images)  # type: ignore[no-any-return]
    return backbone.forward_head(backbone.forward_features(images), pre_logits=True)  # type: ignore[no-any-return]


@torch.no_grad()
def features_of(backbone: Any, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """What the classifier reads, (M, D) float32, and labels (M,), on the CPU, in order; the backbone in eval mode."""
    was_training = backbone.training
    backbone.eval()
    features, labels = [], []
    for images, label in batches:
        features.append(feature(backbone, images).float().cpu())
        labels.append(label.cpu())
    backbone.train(was_training)
    return torch.cat(features), torch.cat(labels)


def knn(
    features: Tensor, labels: Tensor, queries: Tensor, *, classes: int, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Log-probabilities (M, K) of queries by their k nearest labelled features, weighted by exp(cosine / temperature).

    features: (N, D) with labels (N,). queries: (M, D). With fewer than k features, all vote. A class that no neighbour
    has gets a probability of 1e-6. Source: Wu et al. 2018, arXiv:1805.01978, section 3.4; k and temperature as in DINO.
    """
    bank = F.normalize(features.float(), dim=1)  # (N, D)
    votes = F.one_hot(labels, classes).float()  # (N, K)
    k = min(k, len(bank))
    scores = []
    for part in torch.split(F.normalize(queries.float(), dim=1), 1024):  # (b, D)
        similarity, nearest = (part @ bank.T).topk(k, dim=1)  # (b, k)
        weight = (similarity / temperature).softmax(1)  # (b, k)
        scores.append(torch.einsum("bk,bkc->bc", weight, votes[nearest]))
    shares = torch.cat(scores).clamp(min=1e-6)  # (M, K)
    return (shares / shares.sum(1, keepdim=True)).log()


def linear_probe(
    features: Tensor, labels: Tensor, queries: Tensor, *, classes: int, penalty: float | None = None
) -> Tensor:
    """Log-probabilities (M, K) of queries by multinomial logistic regression on standardised features.

    features: (N, D) with labels (N,). queries: (M, D). penalty: of the squared weights, per image; None chooses it by
    5-fold cross-validation on the labelled features alone.
    """
    weight, bias = fit_linear(features, labels, classes=classes, penalty=penalty)
    return F.linear(queries.float(), weight, bias).log_softmax(1)


def fit_linear(
    features: Tensor, labels: Tensor, *, classes: int, penalty: float | None = None, iterations: int = 500
) -> tuple[Tensor, Tensor]:
    """The probe's weight (K, D) and bias (K,), to be applied to features as they are. Arguments as `linear_probe`."""
    if penalty is None:
        penalty = choose_penalty(features, labels, classes=classes)
    x = features.double()
    mean, std = x.mean(0), x.std(0, correction=0)
    std = torch.where(std > 1e-9 * std.amax().clamp(min=1e-30), std, torch.ones_like(std))  # a dead feature stays 0
    weight, bias = minimise((x - mean) / std, labels, classes=classes, penalty=penalty, iterations=iterations)
    weight = weight / std  # (K, D)
    return weight.float(), (bias - weight @ mean).float()


def minimise(
    x: Tensor, labels: Tensor, *, classes: int, penalty: float, iterations: int = 500
) -> tuple[Tensor, Tensor]:
    """The minimum of mean cross-entropy + penalty/2 * |weight|², by L-BFGS from 0 in float64; it is convex."""
    weight = torch.zeros(classes, x.shape[1], dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
    search = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, tolerance_grad=1e-6, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        search.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), labels) + penalty / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        search.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def choose_penalty(features: Tensor, labels: Tensor, *, classes: int, folds: int = 5) -> float:
    """The penalty with the lowest cross-validated loss. Fold = place within the class modulo `folds`, so it is fixed.

    With fewer than two images of some class the folds would lose it: then the middle of the grid.
    """
    counts = torch.bincount(labels, minlength=classes)
    if counts[counts > 0].min() < 2:
        return PENALTIES[len(PENALTIES) // 2]
    place = torch.zeros_like(labels)
    for c in range(classes):
        own = labels == c
        place[own] = torch.arange(int(own.sum()))
    fold = place % folds
    losses = []
    for penalty in PENALTIES:
        total = 0.0
        for held in range(int(fold.max()) + 1):
            out = fold == held
            weight, bias = fit_linear(features[~out], labels[~out], classes=classes, penalty=penalty, iterations=ROUGH)
            said = F.linear(features[out].float(), weight, bias)
            total += float(F.cross_entropy(said, labels[out], reduction="sum"))
        losses.append(total)
    return PENALTIES[losses.index(min(losses))]


class Probed(nn.Module):
    """A frozen backbone judged by a protocol, as a classifier: images (B, C, H, W) -> log-probabilities (B, K)."""

    bank: Tensor
    labels: Tensor

    def __init__(self, backbone: nn.Module, protocol: str, features: Tensor, labels: Tensor, *, classes: int) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.protocol, self.classes = protocol, classes
        if protocol == "linear_probe":
            features, labels = fit_linear(features, labels, classes=classes)
        elif protocol != "knn":
            raise ValueError(f"protocol '{protocol}' does not judge a frozen backbone: linear_probe or knn")
        self.register_buffer("bank", features)  # the probe's weight and bias, or the neighbours and their labels
        self.register_buffer("labels", labels)

    def forward(self, images: Tensor) -> Tensor:
        made = feature(self.backbone, images)  # (B, D)
        if self.protocol == "knn":
            return knn(self.bank, self.labels, made, classes=self.classes)
        return F.linear(made.float(), self.bank, self.labels).log_softmax(1)


class Frozen(LightningModule):
    """What stands in for a trained module where nothing is trained. trained: the classifier, after `learn`."""

    def __init__(self, backbone: nn.Module, protocol: str, *, classes: int) -> None:
        super().__init__()
        missing = [name for name in ("forward_features", "forward_head") if not hasattr(backbone, name)]
        if missing:
            raise UserError(
                f"{type(backbone).__name__} can't be judged by protocol '{protocol}': it has no {', '.join(missing)}",
                "timm's interface",
                "protocol finetune",
            )
        self.encoder: Any = backbone
        self.protocol, self.classes = protocol, classes
        self.trained: nn.Module = nn.Identity()

    def learn(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """From the labelled images, un-augmented. A probe also becomes the backbone's own classifier where it fits."""
        features, labels = features_of(self.encoder, batches)
        made = Probed(self.encoder, self.protocol, features, labels, classes=self.classes)
        head: Any = getattr(self.encoder, "get_classifier", lambda: None)()
        if self.protocol == "linear_probe" and isinstance(head, nn.Linear) and head.weight.shape == made.bank.shape:
            with torch.no_grad():
                head.weight.copy_(made.bank)
                head.bias.copy_(made.labels)
        self.trained = made

    def diagnostics(self) -> dict[str, float | bool]:
        return {}
