"""Evaluate a frozen encoder: a linear probe and nearest neighbours on its features.

Both are deterministic, draw no random numbers, and give log-probabilities (M, K), so that the metrics of all protocols
are computed alike. Each is a `bias_lab.training.job.Probe`.
"""

from collections.abc import Iterable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bias_lab.definition import Run
from bias_lab.errors import UserError

PENALTIES = tuple(10.0**k for k in range(-4, 1))  # of the squared weights of standardised features
FEW_ITERATIONS = 30  # of L-BFGS, enough to compare penalties


class LinearProbe(nn.Module):
    """Logistic regression on a frozen backbone's features: images (B, C, H, W) to log-probabilities (B, K)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.encoder: Any = backbone

    @classmethod
    def from_run(cls, run: Run, backbone: nn.Module) -> Self:
        check_interface(backbone, run.protocol)
        return cls(backbone)

    @property
    def trained(self) -> nn.Module:
        return self

    def learn(self, batches: Iterable[tuple[Tensor, Tensor]], *, classes: int) -> None:
        """Fit the probe on labelled images. It also becomes the backbone's own classifier if the shapes are equal."""
        one_unit = bool(getattr(self.encoder, "one_unit", False))
        weight, bias = fit_linear(*features_of(self.encoder, batches), classes=classes, one_unit=one_unit)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        head: Any = getattr(self.encoder, "get_classifier", lambda: None)()
        if isinstance(head, nn.Linear) and head.weight.shape == weight.shape:
            with torch.no_grad():
                head.weight.copy_(weight)
                head.bias.copy_(bias)

    def forward(self, images: Tensor) -> Tensor:
        return F.linear(feature(self.encoder, images).float(), self.weight, self.bias).log_softmax(1)


class NearestNeighbours(nn.Module):
    """A vote of the nearest labelled features of a frozen backbone: images (B, C, H, W) to log-probabilities (B, K)."""

    bank: Tensor
    labels: Tensor

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.encoder: Any = backbone
        self.classes = 0

    @classmethod
    def from_run(cls, run: Run, backbone: nn.Module) -> Self:
        check_interface(backbone, run.protocol)
        return cls(backbone)

    @property
    def trained(self) -> nn.Module:
        return self

    def learn(self, batches: Iterable[tuple[Tensor, Tensor]], *, classes: int) -> None:
        """Keep the features and labels of labelled images."""
        bank, labels = features_of(self.encoder, batches)
        self.register_buffer("bank", bank)
        self.register_buffer("labels", labels)
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        return knn(self.bank, self.labels, feature(self.encoder, images), classes=self.classes)


def check_interface(backbone: nn.Module, protocol: str) -> None:
    """Raise UserError if features can't be read from a backbone."""
    missing = [name for name in ("forward_features", "forward_head") if not hasattr(backbone, name)]
    if missing:
        raise UserError(
            f"{type(backbone).__name__} can't be evaluated by protocol '{protocol}': it has no {', '.join(missing)}",
            "it needs timm's interface",
            "use the protocol finetune",
        )


def feature(backbone: Any, images: Tensor) -> Tensor:
    """Return the classifier's input (B, D), or the output of a model without timm's interface."""
    if not hasattr(backbone, "forward_head"):
        return backbone(images)  # type: ignore[no-any-return]
    return backbone.forward_head(backbone.forward_features(images), pre_logits=True)  # type: ignore[no-any-return]


@torch.no_grad()
def features_of(backbone: Any, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return features (M, D) in float32 and labels (M,) on the CPU, in order, by the backbone in eval mode."""
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
    """Return log-probabilities (M, K) of queries by their k nearest features, weighted by exp(cosine / temperature).

    features: (N, D) with labels (N,). queries: (M, D). All vote if there are fewer than k. A class that no neighbour
    has gets a probability of 1e-6. Source: Wu et al. 2018, arXiv:1805.01978, section 3.4. k and temperature are DINO's.
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
    """Return log-probabilities (M, K) of queries by multinomial logistic regression on standardised features.

    features: (N, D) with labels (N,). queries: (M, D). penalty: on the squared weights, per image. None chooses it by
    5-fold cross-validation on the labelled features.
    """
    weight, bias = fit_linear(features, labels, classes=classes, penalty=penalty)
    return F.linear(queries.float(), weight, bias).log_softmax(1)


def fit_linear(
    features: Tensor,
    labels: Tensor,
    *,
    classes: int,
    penalty: float | None = None,
    iterations: int = 500,
    one_unit: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the probe's weight (K, D) and bias (K,) for features that are not standardised. See `linear_probe`.

    one_unit: the features share a unit, as pixels do. Then all are divided by one number, the root of their mean
    variance, because a deviation of its own would make the noise of a feature that hardly varies as large as the rest.
    """
    if penalty is None:
        penalty = choose_penalty(features, labels, classes=classes, one_unit=one_unit)
    x, mean, std = standardise(features, one_unit=one_unit)
    return raw(*minimise(x, labels, classes=classes, penalty=penalty, iterations=iterations), mean, std)


def standardise(features: Tensor, *, one_unit: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return features (N, D) with mean 0 and deviation 1 in float64, and the mean and deviation (D,) that they had."""
    x = features.double()
    mean, std = x.mean(0), x.std(0, correction=0)
    if one_unit:
        std = std.square().mean().sqrt().expand_as(std)
    std = torch.where(std > 1e-9 * std.amax().clamp(min=1e-30), std, torch.ones_like(std))  # a constant feature stays 0
    return (x - mean) / std, mean, std


def raw(weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (K, D) and bias (K,) for features as they are, from those for standardised ones."""
    weight = weight / std  # (K, D)
    return weight.float(), (bias - weight @ mean).float()


def minimise(
    x: Tensor, labels: Tensor, *, classes: int, penalty: float, iterations: int = 500
) -> tuple[Tensor, Tensor]:
    """Return weight and bias that minimise mean cross-entropy + penalty/2 * |weight|², by L-BFGS from 0 in float64."""
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


def choose_penalty(features: Tensor, labels: Tensor, *, classes: int, folds: int = 5, one_unit: bool = False) -> float:
    """Return the penalty with the lowest cross-validated loss. one_unit: as in `fit_linear`.

    An image's fold is its place within its class modulo `folds`, so folds are fixed. If a class has fewer than two
    images, some fold would lose it, and the middle of the grid is taken.
    """
    counts = torch.bincount(labels, minlength=classes)
    if counts[counts > 0].min() < 2:
        return PENALTIES[len(PENALTIES) // 2]
    place = torch.zeros_like(labels)
    for c in range(classes):
        own = labels == c
        place[own] = torch.arange(int(own.sum()))
    fold = place % folds
    losses = [0.0] * len(PENALTIES)
    for held in range(int(fold.max()) + 1):
        out = fold == held
        x, mean, std = standardise(features[~out], one_unit=one_unit)
        x = x.float() if one_unit else x  # thousands of pixels an image: half the memory, and half the time
        for i, penalty in enumerate(PENALTIES):
            found = minimise(x, labels[~out], classes=classes, penalty=penalty, iterations=FEW_ITERATIONS)
            logits = F.linear(features[out].float(), *raw(*found, mean, std))
            losses[i] += float(F.cross_entropy(logits, labels[out], reduction="sum"))
    return PENALTIES[losses.index(min(losses))]
