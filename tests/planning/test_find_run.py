"""Test that a run is found by its id, by the beginning of it, and by its folder."""

from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab import ledger, schema
from bias_lab.definition import Run, run_id, to_json
from bias_lab.errors import UserError
from bias_lab.planning.find_run import definition, find

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=1e-3)


def test_a_run_is_found_by_id_by_its_beginning_and_by_its_folder(tmp_path: Path) -> None:
    name = run_id(ONE)
    ledger.write_json(ledger.run_folder(tmp_path, name) / ledger.RUN, to_json(ONE))
    assert find(name, tmp_path) == (tmp_path, name)
    assert find(name[:9], tmp_path) == (tmp_path, name)
    assert find(str(ledger.run_folder(tmp_path, name)), None) == (tmp_path, name)
    assert find(f"runs/{name}", tmp_path) == (tmp_path, name)
    with pytest.raises(UserError, match=f"no run 'abc' in {tmp_path / 'empty'}; --out FOLDER"):
        find("abc", tmp_path / "empty")


def test_without_a_folder_all_results_are_searched(tmp_path: Path) -> None:
    ledger.write_json(ledger.run_folder(tmp_path / "a", "abcd") / ledger.RUN, {})
    ledger.write_json(ledger.run_folder(tmp_path / "b", "abef") / ledger.RUN, {})
    assert find("abc", None, tmp_path) == (tmp_path / "a", "abcd")
    with pytest.raises(UserError, match=r"2 runs in .* begin with 'ab'; abcd, abef; give more of the id"):
        find("ab", None, tmp_path)
    with pytest.raises(UserError, match="unknown run 'abcx'; did you mean 'abcd'"):
        find("abcx", None, tmp_path)


def test_a_definition_is_the_runs_own_or_the_plans(tmp_path: Path) -> None:
    begun, planned = ONE, replace(ONE, seed=1)
    ledger.write_json(ledger.run_folder(tmp_path, run_id(begun)) / ledger.RUN, to_json(begun))
    entries = [{"run_id": run_id(planned), "run": to_json(planned)}]
    ledger.write_json(tmp_path / ledger.EXPERIMENT, {"runs": entries})
    assert definition(tmp_path, run_id(begun)) == begun
    assert definition(tmp_path, run_id(planned)) == planned
    with pytest.raises(UserError, match="has no definition of run 0123"):
        definition(tmp_path, "0123")


def test_a_run_is_found_by_words_that_no_other_label_has(tmp_path: Path) -> None:
    runs = [replace(ONE, draw=draw, seed=1 - draw) for draw in (0, 1)]
    for run in runs:
        ledger.write_json(ledger.run_folder(tmp_path, run_id(run)) / ledger.RUN, to_json(run))
    assert find("draw 1 vit_micro", tmp_path) == (tmp_path, run_id(runs[1]))
    assert find("seed 1 n=100", tmp_path) == (tmp_path, run_id(runs[0]))
    with pytest.raises(
        UserError, match="2 runs in .* fit 'vit_micro N=100'; .*draw 0 seed 1.*; give more words, or an id"
    ):
        find("vit_micro N=100", tmp_path)


def test_a_whole_label_is_its_run_s_although_another_label_has_all_its_words(tmp_path: Path) -> None:
    plain, more = ONE, replace(ONE, priors="mean_pooling")
    for run in (plain, more):
        ledger.write_json(ledger.run_folder(tmp_path, run_id(run)) / ledger.RUN, to_json(run))
    assert find(schema.label(plain), tmp_path) == (tmp_path, run_id(plain))
    assert find(schema.label(more).upper(), tmp_path) == (tmp_path, run_id(more))
