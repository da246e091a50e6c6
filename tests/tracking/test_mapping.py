"""Names, config, summary and job types that W&B shows, the same live and exported."""

import base64
import math
from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab.definition import Run
from bias_lab.errors import UserError
from bias_lab.tracking import mapping
from bias_lab.tracking.mapping import Study
from tests.planted import row
from tests.test_schema import OTHER

RUN = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)


@pytest.mark.parametrize(
    ("disabled", "said", "key", "expected"),
    [
        ("", "", "", "offline"),
        ("", "", "k", "offline"),  # a key alone does not ask
        ("false", "online", "", "online"),
        ("", "dryrun", "k", "offline"),
        ("", "Disabled", "k", "disabled"),
        ("true", "online", "k", "disabled"),
        ("1", "", "k", "disabled"),
    ],
)
def test_the_mode_is_what_wandbs_own_variables_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, disabled: str, said: str, key: str, expected: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (("WANDB_DISABLED", disabled), ("WANDB_MODE", said), ("WANDB_API_KEY", key)):
        monkeypatch.setenv(name, value)
    assert mapping.mode() == expected


@pytest.mark.parametrize(
    ("disabled", "said", "asked", "expected", "words"),
    [
        ("", "", "online", "online", "W&B is online"),
        ("", "offline", "online", "online", "W&B is online"),
        ("", "online", "offline", "offline", "W&B is offline: runs are written to out/wandb, and nothing is uploaded"),
        ("", "online", "off", "disabled", "W&B is off: nothing"),
        ("", "disabled", "online", "disabled", "W&B is off by WANDB_DISABLED or WANDB_MODE"),
        ("true", "", "online", "disabled", "W&B is off by WANDB_DISABLED or WANDB_MODE"),
        ("", "", None, "offline", "W&B is offline"),
    ],
)
def test_the_flag_comes_before_the_mode_and_after_what_disables(
    monkeypatch: pytest.MonkeyPatch, disabled: str, said: str, asked: str | None, expected: str, words: str
) -> None:
    for name, value in (("WANDB_DISABLED", disabled), ("WANDB_MODE", said), ("WANDB_API_KEY", "k")):
        monkeypatch.setenv(name, value)
    assert mapping.mode(asked) == expected
    assert mapping.line(asked, Path("out")).startswith(words)


@pytest.mark.parametrize(("said", "asked"), [("", "online"), ("offline", "online"), ("online", None)])
def test_without_a_key_it_is_not_said_to_be_online(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, asked: str | None
) -> None:
    for name, value in (("WANDB_DISABLED", ""), ("WANDB_MODE", said), ("WANDB_API_KEY", ""), ("HOME", str(tmp_path))):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="W&B has no key on this machine; wandb login, or leave --wandb online out"):
        mapping.line(asked, Path("out"))


@pytest.mark.parametrize("variable", ["WANDB_DISABLED", "WANDB_MODE"])
def test_a_mode_that_is_not_understood_is_named(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "perhaps")
    with pytest.raises(UserError, match=f"the environment variable {variable} is 'perhaps'"):
        mapping.mode()


def test_a_netrc_with_wandb_counts_as_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_MODE", "WANDB_DISABLED", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine api.wandb.ai login user password secret\n")
    netrc.chmod(0o600)
    assert mapping.is_logged_in()
    assert mapping.mode() == "offline"


@pytest.mark.parametrize(
    ("task", "protocol", "kind"),
    [
        ("classify", "finetune", "finetune"),
        ("classify", "linear_probe", "probe"),
        ("classify", "knn", "probe"),
        ("tune", "finetune", "tune"),
        ("pretrain", "finetune", "pretrain"),
    ],
)
def test_a_job_type_is_what_the_run_trains(task: str, protocol: str, kind: str) -> None:
    assert mapping.job_type(task, protocol) == kind


def test_a_summary_holds_metrics_the_right_images_and_the_reason() -> None:
    given = mapping.summary(row(RUN, top1=0.5, correct=b"\x80"))
    assert (given["top1"], base64.b64decode(given["correct"]), given["status"]) == (0.5, b"\x80", "finished")
    assert "reason" not in given
    failed = mapping.summary({"status": "failed", "top1": None}, "diverged: nan")
    assert failed == {"status": "failed", "reason": "diverged: nan"}


def test_a_study_s_keys_are_those_of_its_rows_but_the_size() -> None:
    study = Study(name="a", question="?", rows=({"size": 1, "x": 2}, {"size": 1, "y": 0, "x": 1}))
    assert study.logged_keys() == ("x", "y")


def test_a_run_without_a_result_has_none(tmp_path: Path) -> None:
    assert mapping.result_of(tmp_path) == {}


@pytest.mark.parametrize("name", sorted(set(OTHER) - {"draw", "seed", "task", "monitor"}))
def test_the_config_tells_two_runs_apart_in_any_field(name: str) -> None:
    from bias_lab.rows import row_of

    rows = [row_of("r", run) for run in (RUN, replace(RUN, **{name: OTHER[name]}))]
    if name == "samples_seen":  # measured, and so in the summary
        rows = [row | {"samples_seen": seen} for row, seen in zip(rows, (16_000, 32_000), strict=True)]
        assert mapping.summary_of(rows[0]) != mapping.summary_of(rows[1])
    else:
        assert mapping.config_of(rows[0]) != mapping.config_of(rows[1])


def test_config_and_summary_share_no_column_and_leave_out_what_has_no_value() -> None:
    row = {"run_id": "r", "top1": 0.5, "size": 100, "loss": math.nan, "device": None, "correct": b"1", "seconds": 3.0}
    assert mapping.config_of(row) == {"run_id": "r", "size": 100}
    assert mapping.summary_of(row) == {"top1": 0.5, "seconds": 3.0}
