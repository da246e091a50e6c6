import json

import pytest
import torch

from bias_lab.bench import timing


def test_ratios_are_the_references_time_over_ours(monkeypatch):
    """By a scripted clock the reference takes 3 s and ours 2 s, in either order."""
    clock = [0.0]
    monkeypatch.setattr(timing.time, "thread_time", lambda: clock[0])

    def takes(seconds):
        def run():
            clock[0] += seconds

        return run

    assert timing.interleaved(takes(3.0), takes(2.0), rounds=4) == pytest.approx([1.5] * 4)


def test_each_round_times_both_in_alternating_order():
    seen = []
    timing.interleaved(lambda: seen.append("reference"), lambda: seen.append("ours"), rounds=2)
    assert seen == ["ours", "reference", "reference", "ours"] * 2  # the first two rounds are not counted


def test_a_row_has_the_quartiles_and_the_count():
    row = timing.row("a case", "train", "timm", [1.0, 2.0, 3.0, 4.0, 5.0])
    assert (row["low"], row["ratio"], row["high"], row["n"]) == (2.0, 3.0, 4.0, 5)


def test_torch_has_its_threads_again_also_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), timing.one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_a_stopped_measurement_keeps_its_rows(tmp_path):
    def parts():
        yield [{"case": "a"}, {"case": "b"}]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        timing.collect(parts(), tmp_path / "rows.json")
    assert json.loads((tmp_path / "rows.json").read_text()) == [{"case": "a"}, {"case": "b"}]
    assert timing.collect([[{"case": "a"}], [{"case": "b"}]], None) == [{"case": "a"}, {"case": "b"}]
