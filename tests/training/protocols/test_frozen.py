"""The linear probe and nearest neighbours against oracles that share no code, and that the backbone stays frozen."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from bias_lab.backbones import create
from bias_lab.training.protocols.frozen import (
    PENALTIES,
    LinearProbe,
    NearestNeighbours,
    choose_penalty,
    features_of,
    fit_linear,
    knn,
    linear_probe,
    minimise,
)


def clusters(n: int, seed: int = 0, noise: float = 0.6) -> tuple[torch.Tensor, torch.Tensor]:
    """Return three classes of features around three directions, in 5 dimensions of very different scale."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    centres = torch.eye(5)[:3] * 2
    offsets = torch.randn(n, 5, generator=g)
    return (centres[labels] + noise * offsets) * torch.tensor([1.0, 10, 0.1, 3, 1]) + 4, labels


def test_neighbours_vote_as_in_a_loop() -> None:
    (bank, labels), (queries, _) = clusters(40), clusters(7, seed=1)
    result = knn(bank, labels, queries, classes=4, k=5, temperature=0.1).exp()
    for m, query in enumerate(queries.numpy()):
        cosine = [float(f @ query / np.linalg.norm(f) / np.linalg.norm(query)) for f in bank.numpy()]
        nearest = sorted(range(40), key=lambda i: -cosine[i])[:5]
        share = np.full(4, 0.0)
        for i in nearest:
            share[labels[i]] += np.exp(cosine[i] / 0.1)
        share = np.maximum(share / share.sum(), 1e-6)
        np.testing.assert_allclose(result[m].numpy(), share / share.sum(), atol=1e-5)


def test_the_temperature_matters_and_few_features_all_vote() -> None:
    bank, labels = torch.tensor([[1.0, 0], [0, 1], [0.1, 1]]), torch.tensor([0, 1, 1])
    query = torch.tensor([[1.0, 0.3]])
    assert knn(bank, labels, query, classes=2, k=20, temperature=0.07).argmax() == 0  # the near one has more weight
    assert knn(bank, labels, query, classes=2, k=20, temperature=100.0).argmax() == 1  # all have equal weights


def scipy_logits(x: np.ndarray, y: np.ndarray, queries: np.ndarray, penalty: float) -> np.ndarray:
    """Return logits of the same optimum by SciPy, from the formula alone, with finite differences."""
    mean, std = x.mean(0), x.std(0)
    z, K, D = (x - mean) / std, 3, x.shape[1]

    def objective(flat: np.ndarray) -> float:
        weight, bias = flat[: K * D].reshape(K, D), flat[K * D :]
        logits = z @ weight.T + bias
        top = logits.max(1, keepdims=True)
        log_p = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
        return float(-log_p[np.arange(len(y)), y].mean() + penalty / 2 * (weight**2).sum())

    flat = minimize(objective, np.zeros(K * D + K), method="BFGS", options=dict(gtol=1e-7)).x
    return (queries - mean) / std @ flat[: K * D].reshape(K, D).T + flat[K * D :]


def test_the_probe_is_the_optimum_of_its_formula() -> None:
    (x, y), (queries, _) = clusters(60), clusters(9, seed=1)
    result = linear_probe(x, y, queries, classes=3, penalty=0.01)
    expected = torch.from_numpy(scipy_logits(x.double().numpy(), y.numpy(), queries.double().numpy(), 0.01))
    torch.testing.assert_close(result, expected.log_softmax(1).float(), atol=2e-3, rtol=1e-3)


def test_the_probe_does_not_depend_on_scale_or_constant_features() -> None:
    (x, y), (queries, _) = clusters(60), clusters(9, seed=1)
    plain = linear_probe(x, y, queries, classes=3, penalty=0.01)
    torch.testing.assert_close(
        linear_probe(x * 1000, y, queries * 1000, classes=3, penalty=0.01), plain, atol=1e-3, rtol=1e-3
    )
    constant, constant_queries = (torch.cat([a, torch.full((len(a), 1), 7.0)], dim=1) for a in (x, queries))
    torch.testing.assert_close(
        linear_probe(constant, y, constant_queries, classes=3, penalty=0.01), plain, atol=1e-3, rtol=1e-3
    )


def test_the_penalty_is_chosen_on_the_labelled_features_alone() -> None:
    easy, labels = clusters(90, noise=0.05)
    g = torch.Generator().manual_seed(2)
    noise = torch.randn(60, 40, generator=g)
    assert choose_penalty(easy, labels, classes=3) < choose_penalty(noise, torch.arange(60) % 3, classes=3)
    once = torch.arange(3)
    assert choose_penalty(easy[:3], once, classes=3) in PENALTIES  # one image a class leaves no folds


def test_what_is_fitted_twice_is_the_same() -> None:
    x, y = clusters(60)
    first, again = fit_linear(x, y, classes=3), fit_linear(x, y, classes=3)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


@pytest.mark.parametrize("kind", [LinearProbe, NearestNeighbours])
def test_a_frozen_backbone_becomes_a_classifier(kind: type[LinearProbe] | type[NearestNeighbours]) -> None:
    torch.manual_seed(0)
    backbone = create("resnet_micro", image_size=16, channels=1, classes=None)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    g = torch.Generator().manual_seed(1)
    labels = torch.arange(60) % 3
    images = torch.randn(60, 1, 16, 16, generator=g) * 0.3 + labels[:, None, None, None]
    batches = [(images[:32], labels[:32]), (images[32:], labels[32:])]
    features, _ = features_of(backbone, batches)
    assert features.shape == (60, backbone.head_hidden_size)
    assert backbone.training  # as before
    method = kind(backbone)
    method.learn(batches, classes=3)
    with torch.inference_mode():
        predicted = method.trained.eval()(images)
    function = linear_probe if kind is LinearProbe else knn
    torch.testing.assert_close(predicted, function(features, labels, features, classes=3), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(predicted.exp().sum(1), torch.ones(60))
    after = backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # batch norm's statistics too


def test_features_of_one_unit_are_scaled_by_one_number() -> None:
    """The oracle scales by the root of the mean variance itself. A feature of noise then keeps its small weight."""
    (x, y), (queries, _) = clusters(60), clusters(30, seed=1)
    g = torch.Generator().manual_seed(3)
    x, queries = (torch.cat([a, 1e-3 * torch.randn(len(a), 20, generator=g)], dim=1) for a in (x, queries))
    weight, bias = fit_linear(x, y, classes=3, penalty=0.01, one_unit=True)
    scale = x.double().var(0, correction=0).mean().sqrt()
    mean = x.double().mean(0)
    by_hand, offset = minimise((x.double() - mean) / scale, y, classes=3, penalty=0.01)
    expected = ((queries.double() - mean) / scale) @ by_hand.T + offset
    torch.testing.assert_close((queries @ weight.T + bias).double(), expected, atol=1e-3, rtol=1e-3)
    standardised, _ = fit_linear(x, y, classes=3, penalty=0.01)
    noise = [float((w[:, -20:] * 1e-3).abs().max()) for w in (weight, standardised)]
    assert noise[0] < noise[1] / 100


def test_a_probe_asks_its_backbone_for_the_unit() -> None:
    g = torch.Generator().manual_seed(1)
    labels = torch.arange(40) % 4
    images = torch.randn(40, 1, 8, 8, generator=g) * torch.linspace(0, 1, 8) + labels[:, None, None, None]
    backbone = create("pixels", image_size=8, channels=1, classes=4)
    probe = LinearProbe(backbone)
    probe.learn([(images, labels)], classes=4)
    weight, bias = fit_linear(images.flatten(1), labels, classes=4, one_unit=True)
    assert torch.equal(probe.weight, weight)
    assert torch.equal(backbone.head.weight, weight)  # the classifier that is stored
    torch.testing.assert_close(probe(images), (images.flatten(1) @ weight.T + bias).log_softmax(1))


CONVOLUTIONAL = ["resnet_micro", "efficientnet_micro", "mobilenetv3_micro", "mobilevit_micro"]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_untrained_batch_norms_change_nothing_and_mix_no_images(name: str) -> None:
    """Their running means are 0 and variances 1, so an image's features do not depend on the other images.

    The features stay as different from one another as the probe needs, and reading them leaves the statistics alone.
    """
    torch.manual_seed(0)
    backbone = create(name, image_size=16, channels=1, classes=10)
    images, labels = torch.randn(12, 1, 16, 16), torch.arange(12) % 3
    together, _ = features_of(backbone, [(images, labels)])
    alone, _ = features_of(backbone, [(images[:1], labels[:1])])
    torch.testing.assert_close(together[:1], alone, atol=1e-6, rtol=1e-3)
    spread = together.std(0) / together.abs().mean(0).clamp(min=1e-30)
    assert spread.median() > 1e-2
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(m.running_mean.abs().max() == 0 and (m.running_var == 1).all() for m in norms)
