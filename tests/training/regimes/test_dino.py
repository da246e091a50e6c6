"""DINO: the loss against loops written from the paper, the gradients, the schedules, and planted collapse."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from bias_lab.backbones import create
from bias_lab.definition import Run
from bias_lab.training.regimes import dino
from bias_lab.training.regimes.dino import DINO, PAPER, Head, dino_loss, teacher_temperature

SIDE = 16
Array = NDArray[np.float64]


def small(name: str = "vit_micro", side: int = SIDE) -> nn.Module:
    torch.manual_seed(0)
    return create(name, image_size=side, channels=1, classes=None)


def method(name: str = "vit_micro", **keywords: object) -> DINO:
    sizes = dict(prototypes=32, hidden=16, bottleneck=8, local_views=2, steps=20)
    return DINO(small(name), **(sizes | keywords))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def loss_by_hand(student: Array, teacher: Array, center: Array, ts: float, tt: float) -> float:
    """Return the loss of the paper's algorithm 1 with multi-crop, by a loop over pairs of views."""
    pairs = []
    for t in range(2):
        for v in range(len(student)):
            if v == t:
                continue
            p, q = softmax((teacher[t] - center) / tt), softmax(student[v] / ts)
            pairs.append(np.mean([-sum(p[b] * np.log(q[b])) for b in range(len(p))]))
    return float(np.mean(pairs))


def example() -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 3, 7)), rng.normal(size=(2, 3, 7)), rng.normal(size=7)


def test_the_loss_is_the_paper_s() -> None:
    student, teacher, center = example()
    result = dino_loss(
        *map(torch.from_numpy, (student, teacher, center)), student_temperature=0.1, teacher_temperature=0.04
    )
    assert result.item() == pytest.approx(loss_by_hand(student, teacher, center, 0.1, 0.04), abs=1e-6)


@pytest.mark.parametrize("error", ["itself too", "no center", "center on the student", "one temperature"])
def test_the_oracle_catches_a_planted_error(error: str) -> None:
    student, teacher, center = example()
    right = loss_by_hand(student, teacher, center, 0.1, 0.04)
    wrong = {
        "itself too": np.mean(
            [
                -(softmax((teacher[t] - center) / 0.04) * np.log(softmax(student[v] / 0.1))).sum(-1).mean()
                for t in range(2)
                for v in range(5)
            ]
        ),
        "no center": loss_by_hand(student, teacher, 0 * center, 0.1, 0.04),
        "center on the student": loss_by_hand(student - center, teacher - center, 0 * center, 0.1, 0.04),
        "one temperature": loss_by_hand(student, teacher, center, 0.1, 0.1),
    }[error]
    assert abs(wrong - right) > 1e-3


def test_a_view_is_never_compared_with_itself() -> None:
    student = torch.randn(2, 4, 7, requires_grad=True)
    teacher = torch.stack([torch.full((4, 7), 0.0), torch.randn(4, 7)])
    loss = dino_loss(student, teacher, torch.zeros(7), student_temperature=1.0, teacher_temperature=1.0)
    loss.backward()
    # the teacher's uniform first view pulls the student's second towards uniform, and not its first
    expected = (student[1].softmax(-1) - 1 / 7) / (4 * 2)
    torch.testing.assert_close(student.grad[1], expected.detach())


def test_gradient_reaches_the_student_and_never_the_teacher() -> None:
    module = method(steps=20)
    module.step += 1  # after the frozen steps
    module.training_step(torch.randn(4, 1, SIDE, SIDE), 0).backward()
    for name, parameter in module.named_parameters():
        if name.startswith("teacher"):
            assert not parameter.requires_grad
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    optimised = {id(p) for group in module.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert optimised == {id(p) for p in module.parameters() if p.requires_grad}


def test_prototypes_keep_still_at_first() -> None:
    module = method(steps=200)  # one in a hundred, which is 2 steps
    for step in range(4):
        module.zero_grad()
        module.training_step(torch.randn(4, 1, SIDE, SIDE), step).backward()
        assert (module.student_head.prototypes.grad is None) == (step < 2)


def test_the_teacher_follows_by_its_momentum() -> None:
    module = method(momentum=0.9, steps=10)
    slow = module.teacher_head.prototypes.clone()
    with torch.no_grad():
        module.student_head.prototypes.add_(1)
    module.update_ema(0, 10)
    torch.testing.assert_close(module.teacher_head.prototypes, slow + 0.1)
    module.update_ema(5, 10)  # after half of the steps the momentum has risen half of the way to 1
    torch.testing.assert_close(module.teacher_head.prototypes, slow + 0.1 + 0.9 * 0.05)
    before = module.teacher_head.prototypes.clone()
    module.update_ema(10, 10)
    torch.testing.assert_close(module.teacher_head.prototypes, before)


def kept(momentum: float, steps: int) -> float:
    """Return the share of the teacher's first weights that is left after a training."""
    rising = (1 - (1 - momentum) * (math.cos(math.pi * step / steps) + 1) / 2 for step in range(1, steps))
    return math.prod(rising)


def test_a_short_training_s_teacher_forgets_its_start_if_its_schedule_follows_the_steps() -> None:
    assert kept(0.99, 100) == pytest.approx(0.61, abs=0.01)
    assert dino.momentum_for(0.99, 1_500) == pytest.approx(0.99)
    assert dino.momentum_for(0.99, 100_000) == pytest.approx(0.99)
    assert all(kept(dino.momentum_for(0.99, steps), steps) < 1e-3 for steps in (40, 100, 500, 1_500))
    run = Run(dataset="mnist", backbone="vit_micro", task="pretrain", regime="dino", samples_seen=3200)
    for schedule, momentum in (("", 0.99), ("steps", 0.85)):
        module = DINO.from_run(
            replace(run, teacher_schedule=schedule), create("vit_micro", image_size=28, channels=1, classes=None)
        )
        assert module.momentum == pytest.approx(momentum)


def test_the_center_is_the_moving_average_of_the_teacher_s_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = method(local_views=0)
    means = []
    monkeypatch.setattr(module, "record_diagnostics", lambda features, teacher, _: means.append(teacher.mean((0, 1))))
    for step in range(2):
        module.training_step(torch.randn(4, 1, SIDE, SIDE), step)
    torch.testing.assert_close(module.center, 0.9 * means[0] + 0.1 * means[1])  # it begins at the first batch's


def test_the_teacher_s_temperature_rises_and_stays() -> None:
    assert [round(teacher_temperature(s, 100), 4) for s in (0, 15, 30, 99)] == [0.04, 0.055, 0.07, 0.07]


def test_the_head_gives_cosines_of_unit_vectors() -> None:
    head = Head(6, hidden=5, bottleneck=4, prototypes=9)
    x = torch.randn(3, 6)
    unit = nn.functional.normalize(head.layers(x), dim=1)
    expected = unit @ nn.functional.normalize(head.prototypes, dim=1).T
    torch.testing.assert_close(head(x), expected)
    with torch.no_grad():
        head.prototypes.mul_(7)  # their length does not matter
    torch.testing.assert_close(head(x), expected)


@pytest.mark.parametrize("kind", ["one answer", "uniform"])
def test_a_planted_collapse_is_named(kind: str) -> None:
    module = method(local_views=0)
    last = module.teacher_head.layers[-1]
    nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(torch.randn(8))  # one vector for all images
        if kind == "uniform":
            module.teacher_head.prototypes.copy_(torch.ones_like(module.teacher_head.prototypes))
    module.training_step(torch.randn(8, 1, SIDE, SIDE), 0)
    diagnostics = module.diagnostics()
    assert diagnostics["collapsed"] is True
    assert diagnostics["teacher_information"] == pytest.approx(0, abs=1e-4)
    assert diagnostics["teacher_entropy"] == pytest.approx(math.log(32), abs=1e-4) if kind == "uniform" else True


def test_a_healthy_teacher_is_not_called_collapsed() -> None:
    module = method()
    assert module.diagnostics() == {}
    module.training_step(torch.randn(16, 1, SIDE, SIDE), 0)
    diagnostics = module.diagnostics()
    assert diagnostics["collapsed"] is False
    assert 0 < diagnostics["teacher_information"] < math.log(32)


def test_batch_norm_of_the_teacher_is_its_own() -> None:
    module = method("resnet_micro")
    before = module.teacher.bn1.running_mean.clone()
    module.training_step(torch.randn(4, 1, SIDE, SIDE) + 3, 0)
    assert not torch.equal(module.teacher.bn1.running_mean, before)


def test_from_run_takes_small_sizes_or_the_paper_s() -> None:
    run = Run(dataset="d", backbone="resnet_micro", task="pretrain", regime="dino", learning_rate=2e-3)
    module = DINO.from_run(run, small("resnet_micro"))
    assert module.center.shape == (1024,)
    assert module.configure_optimizers()["optimizer"].defaults["lr"] == 2e-3
    assert dict(prototypes=65_536, hidden=2048, bottleneck=256, local_views=8, momentum=0.996) == PAPER
    small("resnet_micro").load_state_dict(module.encoder.state_dict(), strict=True)


@pytest.mark.parametrize(
    ("dataset", "image_size", "papers"),
    [("oxford_pet", None, True), ("oxford_pet", 64, False), ("cifar10", None, False), ("folder:0", 96, True)],
)
def test_the_paper_s_sizes_from_96_px_on_the_dataset_s_own_too(
    dataset: str, image_size: int | None, papers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dino, "PAPER", dict(prototypes=77))
    run = Run(dataset=dataset, image_size=image_size, backbone="resnet_micro", task="pretrain", regime="dino")
    assert (DINO.from_run(run, small("resnet_micro")).center.shape == (77,)) == papers


@pytest.mark.parametrize(("name", "expected"), [("vit_micro", "attention"), ("resnet_micro", "features")])
def test_pictures(name: str, expected: str) -> None:
    module = method(name).eval()
    images = torch.randn(9, 1, SIDE, SIDE)
    state = torch.get_rng_state()
    pictures = module.pictures(images)
    assert torch.equal(state, torch.get_rng_state())
    assert list(pictures) == [expected]
    assert pictures[expected].shape == (2 * 66, 8 * 66, 3)
