"""The commands that list names, write manifests and measure."""

from pathlib import Path

from bias_lab import catalogue, ledger
from tests.cli.commands import Call


def test_datasets_are_listed_and_one_is_described(run: Call) -> None:
    code, out, _ = run("datasets")
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert set(catalogue.DATASETS) <= set(rows)
    for figure in ("10", "10,000", "2,000", "28", "1", "MIT"):
        assert figure in rows["fashion_mnist_12k"].split()
    assert "bias-lab datasets check NAME" in out
    code, out, _ = run("datasets", "check", "fashion_mnist_12k")
    assert code == 0
    assert "mean 0.2862, standard deviation 0.3528" in out
    assert "licence: MIT; cite Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747" in out


def test_a_manifest_is_written_and_used_and_bounds_the_sizes(run: Call, study: Path) -> None:
    code, out, _ = run("subset", "fashion_mnist_12k", "--sizes", "50,120", "--draw", "3", "--out", "m.parquet")
    assert (code, out) == (0, "m.parquet lists 120 images of fashion_mnist_12k, draw 3\n")
    code, out, _ = run("sweep", study, "--manifest", "m.parquet", "--out", "out")
    assert code == 0
    assert "left out: size 1000 exceeds the 120 training images of fashion_mnist_12k in the manifest" in out
    runs = [entry["run"] for entry in ledger.read_json(Path("out") / ledger.EXPERIMENT)["runs"]]
    (digest,) = {run["manifest"] for run in runs}
    assert f"manifest:{digest}" in ledger.read_json(Path("out") / ledger.PLACES)
    code, _, err = run("sweep", study, "--manifest", "m.parquet", "--sizes", "121", "--out", "out")
    assert (code, "exceeds the 120" in err) == (2, True)


def test_experiments_are_listed_with_their_profiles(run: Call) -> None:
    code, out, _ = run("experiments")
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert {"small_data", "tuning", "pretraining"} <= set(rows)
    assert "smoke, laptop, desk" in rows["small_data"]
    assert "How much accuracy does a plain vision transformer lose" in rows["small_data"]


def test_backbones_are_listed_by_a_word(run: Call) -> None:
    code, out, _ = run("backbones", "vit_micro")
    assert code == 0
    assert "vit_micro" in out
    assert "resnet_micro" not in out
    assert "any timm name works too" in out


def test_controls_are_listed_as_such(run: Call) -> None:
    _, out, _ = run("backbones", "")
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert rows["pixels"][1:4] == ["pixels", "other", "control"]
    assert rows["mlp_micro"][1:4] == ["mlp", "other", "control"]
    assert rows["vit_micro_wide"][1:3] == ["vit", "transformer"]
    assert sum("control" in row for row in rows.values()) == 3


def test_a_check_takes_the_names_of_columns_and_leaves_out_bad_images(run: Call, photos: Path) -> None:
    rows = [f"{path},{path.parent.name}" for path in sorted(photos.glob("*/*.png"))]
    Path("a.csv").write_text("\n".join(["file,animal", *rows]) + "\n")
    code, _, err = run("datasets", "check", "a.csv")
    assert (code, "--path-column NAME --label-column NAME" in err) == (2, True)
    code, out, _ = run("datasets", "check", "a.csv", "--path-column", "file", "--label-column", "animal")
    assert (code, out.splitlines()[0]) == (0, "3 classes, 72 training and 18 test images")
    (photos / "cat" / "broken.png").write_bytes(b"nothing")
    code, _, err = run("datasets", "check", photos)
    assert (code, "--skip-bad-images" in err) == (2, True)
    code, out, _ = run("datasets", "check", photos, "--skip-bad-images")
    assert (code, "1 of 91 images can't be read and are left out: " in out) == (0, True)
    code, _, err = run("datasets", "check", "fashion_mnist_12k", "--label-column", "animal")
    assert (code, "without a table" in err) == (2, True)
