import json
import os

import numpy as np
import pytest
import torch
from timm.layers.config import use_fused_attn

from bias_lab.bench import backbones as bench

TINY = bench.Case(
    name="swin tiny map",
    model="swin_tiny_patch4_window7_224",
    image_size=32,
    batch=2,
    keywords=dict(img_size=32, window_size=4, embed_dim=16, depths=(2,), num_heads=(2,), num_classes=3),
    best="fused_inference",
)


def test_a_row_holds_the_quartiles_of_all_processes_rounds():
    parts = [bench.process_row("a case", "train", "timm", ratios) for ratios in ([1.0, 1.3, 1.1], [1.6, 0.9, 1.2])]
    row = bench.pool(parts)
    low, middle, high = np.percentile([1.0, 1.3, 1.1, 1.6, 0.9, 1.2], [25, 50, 75])
    assert (row["low"], row["ratio"], row["high"]) == pytest.approx((low, middle, high), abs=5e-4)
    assert (row["case"], row["mode"], row["reference"], row["n"]) == ("a case", "train", "timm", 6)
    assert "ratios" not in row


INTEL = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile\n"


def test_what_multiplies_bf16_is_read_from_the_processors_flags():
    assert bench.bf16_units(INTEL) == "amx_bf16, avx512_bf16"
    assert bench.bf16_units("Features\t: fp asimd bf16 i8mm\n") == "bf16"
    assert bench.bf16_units("model name : amx\nflags : avx2 amx_tile avx512f") == bench.bf16_units("") == ""


def test_a_row_has_the_place_of_its_measurement(monkeypatch):
    monkeypatch.setattr(bench, "cpuinfo", lambda: INTEL)
    place = next(bench.measure(TINY, rounds=2))["machine"]
    assert place.startswith("Some CPU @ 2 GHz, ")
    assert f"torch {torch.__version__.split('+')[0]}, timm {bench.timm.__version__}" in place
    assert bench.processor_and_versions("")


@pytest.mark.parametrize(("info", "note"), [(INTEL, "amx_bf16"), ("", "no unit of this CPU")])
def test_bf16_rows_note_the_units_of_the_processor(info, note, monkeypatch):
    monkeypatch.setattr(bench, "cpuinfo", lambda: info)
    rows = list(bench.halves(TINY, rounds=2))
    assert [(row["mode"], row["reference"]) for row in rows] == [
        ("train bf16", "ours fp32"),
        ("inference bf16", "ours fp32"),
    ]
    assert all(note in row["note"] and len(row["ratios"]) == 2 for row in rows)


@pytest.mark.parametrize(("info", "processes"), [(INTEL, 3), ("", 1)])
def test_a_case_is_measured_in_several_processes_and_bf16_in_one_where_nothing_multiplies_it(
    info, processes, monkeypatch
):
    monkeypatch.setattr(bench, "cpuinfo", lambda: info)
    asked = []

    def alone(work, case, rounds, environment):
        asked.append((work, case))
        heap = environment == bench.KEEP_HEAP
        return [bench.process_row(str(case), work.__name__, "kept" if heap else "as it comes", [1.0] * rounds)]

    monkeypatch.setattr(bench, "alone", alone)
    rows = bench.main(only="vit micro")
    assert asked == [(bench.measure, bench.CASES[6])] * 3 + [(bench.halves, bench.CASES[6])] * processes
    assert [row["n"] for row in rows] == [12, 4 * processes]
    (row,) = bench.main(only="resnet_micro")
    assert (row["mode"], row["reference"], row["n"]) == ("size", "kept", 12)


def test_a_micro_size_is_held_against_vit_micro_at_both_ends_of_its_range():
    small, large = bench.size("vit_micro", rounds=2)
    assert (small["case"], large["case"]) == ("vit_micro 28px, batch 32", "vit_micro 64px, batch 32")
    assert small["parameters"] == sum(
        p.numel() for p in bench.create("vit_micro", image_size=28, channels=1, classes=10).parameters()
    )
    assert 0.5 < np.median(small["ratios"]) < 2  # it is compared with itself
    assert len(bench.MICRO) == 7


def test_both_have_the_same_weights_and_fused_attention_is_switched_back():
    experimental = use_fused_attn(experimental=True)
    ours, theirs = bench.pair_of_models(TINY, fused=True)
    assert theirs.layers[0].blocks[0].attn.fused_attn
    assert use_fused_attn(experimental=True) == experimental
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), atol=1e-5, rtol=1e-4)


def test_main_writes_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "alone", lambda work, case, rounds, _: bench.on_one_thread(work, case, rounds))
    monkeypatch.setattr(bench, "CASES", (TINY,))
    monkeypatch.setattr(bench, "MICRO", ("vit_micro",))
    threads = torch.get_num_threads()
    rows = bench.main(tmp_path / "rows.json", quick=True)
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    assert torch.get_num_threads() == threads
    assert [(row["mode"], row["reference"]) for row in rows] == [
        ("inference", "timm"),
        ("inference", "timm fused"),
        ("train", "timm"),
        ("inference after training", "timm"),
        ("train bf16", "ours fp32"),
        ("inference bf16", "ours fp32"),
        ("micro", "vit_micro"),
        ("micro", "vit_micro"),
    ]
    assert all(row["low"] <= row["ratio"] <= row["high"] and row["n"] == 3 for row in rows)


@pytest.mark.slow  # two processes import torch
def test_each_case_has_a_process_of_its_own_and_one_thread():
    before = dict(os.environ)
    first, second = (bench.alone(where_it_runs, case, 2, {"BIAS_LAB_CASE": case}) for case in ("a", "b"))
    assert dict(os.environ) == before
    assert [row["environment"] for row in first + second] == ["a", "b"]
    assert first[0]["process"] != second[0]["process"]
    assert [row["threads"] for row in first + second] == [1, 1]
    assert [(row["case"], row["rounds"]) for row in first + second] == [("a", 2), ("b", 2)]


def where_it_runs(case, *, rounds):
    threads = torch.get_num_threads()
    yield dict(case=case, rounds=rounds, process=os.getpid(), threads=threads, environment=os.environ["BIAS_LAB_CASE"])


def test_every_case_that_is_claimed_is_measured():
    assert len({case.name for case in bench.CASES}) == len(bench.CASES) == 8
    assert [case.best for case in bench.CASES if "mobilevit" in case.name] == ["channels_last"] * 4
    assert [case.best for case in bench.CASES if "swin" in case.name] == ["fused_inference"] * 2
