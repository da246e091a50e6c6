"""What README and the site say: numbers and figures are those of the committed tables, and the site builds.

The backbone that is shown: test_main_job.py. Commands: test_docs_commands.py.
"""

import importlib.util
import json
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from bias_lab import catalogue, ledger, statistics, tuning
from bias_lab.errors import UserError
from bias_lab.report.evidence.headline import ALONE
from bias_lab.report.pages import Head

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(path for path in DOCS.glob("**/*.md"))


def module(name: str) -> Any:
    """Return a script of docs/ as a module."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@cache
def writer() -> Any:
    """Return the script that writes; each of its blocks is made once, since the tables do not change."""
    script = module("write_docs")
    script.BLOCKS = {name: (file, cache(block)) for name, (file, block) in script.BLOCKS.items()}
    return script


@cache
def studies() -> Any:
    writer()
    return sys.modules["study_pages"]


def text_of(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


MAIN = (
    "result",
    "first page",
    "small data cifar10",
    "matrix",
    "bench backbones",
    "bench data",
    "bench study",
)  # the rest takes a minute


def test_numbers_are_those_of_the_committed_table() -> None:
    for file in writer().files():
        assert writer().written(file, text_of(file), MAIN) == text_of(file), "run: python docs/write_docs.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    ["docs/results.md", "docs/segmentation.md", *(f"docs/studies/{p.name}" for p in DOCS.glob("studies/*.md"))],
)
def test_numbers_of_every_study_are_those_of_its_committed_table(file: str) -> None:
    text = text_of(file)
    assert writer().written(file, text) == text, "run: python docs/write_docs.py"
    found = re.search(r"\d+\.\d points", text)
    assert found is not None
    planted = text.replace(found.group(), "99.9 points", 1)
    assert writer().written(file, planted) != planted


@pytest.mark.parametrize("file", ["README.md", "docs/index.md", "docs/studies/small_data.md"])
def test_a_changed_number_is_seen(file: str) -> None:
    found = re.search(r"\d+\.\d points", text_of(file))
    assert found is not None
    planted = text_of(file).replace(found.group(), "99.9 points", 1)
    assert writer().written(file, planted, MAIN) != planted


@pytest.mark.slow
def test_figures_are_those_of_the_committed_tables() -> None:
    drawn = {file: text for study in studies().STUDIES.values() for file, text in studies().drawings(study)}
    assert {file: text_of(file) == text for file, text in drawn.items()} == dict.fromkeys(drawn, True)
    committed = {path.relative_to(ROOT).as_posix() for path in (DOCS / "results").glob("**/*.svg")}
    assert committed == set(drawn), "a figure that no page shows, or one that is missing"


def test_a_study_that_is_not_settled_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ("**Not settled.**" in README) is not studies().is_settled(writer().MAIN)
    monkeypatch.setattr(studies(), "is_settled", lambda study: True)
    assert "Not settled" not in module("write_docs").said()


def test_a_settled_study_is_told_by_its_headline(monkeypatch: pytest.MonkeyPatch) -> None:
    study = studies().STUDIES["small data cifar10"]

    recipes, optimizers = (f"{ALONE.format(what=what)}, the shortfall is 8.0." for what in ("recipe", "optimizer"))
    size = "At 9,000 labels plain ViT is 9.0 points behind."
    told = (recipes, "One.", "Two.", optimizers, size)

    class Settled:
        heads = (Head(headline="Plain ViT is 7.0 points behind.", support=told),)

    monkeypatch.setattr(studies(), "page", lambda *folders: Settled)
    assert studies().is_settled(study)
    assert studies().sentences(study) == ["Plain ViT is 7.0 points behind.", recipes, "One.", "Two.", size]


@pytest.mark.parametrize(
    ("low", "gap", "high", "said"),
    [
        (0.05, 0.1, 0.15, "the ViT is 10.0 points less accurate than the CNN (95 % CI 5.0 to 15.0)"),
        (-0.15, -0.1, -0.05, "the ViT is 10.0 points more accurate than the CNN (95 % CI 5.0 to 15.0)"),
        (
            -0.05,
            0.1,
            0.25,
            "no difference between the ViT and the CNN is shown (CNN minus ViT: 95 % CI −5.0 to 25.0 points)",
        ),
    ],
)
def test_a_sentence_fits_any_outcome(low: float, gap: float, high: float, said: str) -> None:
    assert (
        sys.modules[studies().Study.__module__].lead(
            dict(low_any=low, shortfall=gap, high_any=high), "the CNN", "the ViT"
        )
        == said
    )


def test_the_claim_holds_in_the_committed_table() -> None:
    """Settled, plain ViT falls short of ResNet at both sizes, and at equal images of the CNNs' mean."""
    table = pd.read_parquet(DOCS / "results" / "small_data_fashion" / ledger.TABLE)
    rows = table[(table["regime"] == "scratch") & (table["protocol"] == "finetune") & (table["task"] == "classify")]
    assert (set(rows["recipe"]), set(rows["optimizer"])) == ({"plain"}, {"muon"})
    kept = ["size", "draw", "seed", "backbone", "samples_seen"]
    top1 = rows.drop_duplicates(kept).set_index(kept)["top1"]
    for size in (100, 1000):
        there = top1.loc[size].reset_index()
        most = there.loc[there.groupby(["draw", "backbone"])["samples_seen"].idxmax()]
        settled = most.pivot(index="draw", columns="backbone", values="top1")
        lead = settled["resnet_micro"] - settled["vit_micro"]
        assert len(lead) >= 3
        assert stats.ttest_1samp(lead, 0).confidence_interval(0.95).low > 0
        equal = there[there["samples_seen"] == 16_000].pivot(index="draw", columns="backbone", values="top1")
        cnns = equal[["resnet_micro", "efficientnet_micro", "mobilenetv3_micro"]].mean(axis=1)
        assert (cnns - equal["vit_micro"]).mean() > 0


def cell(study: str, backbone: str, size: int, comparison: str = "settled", **where: object) -> pd.DataFrame:
    """Return a cell of a committed study in percent: replicate → test and training accuracy."""
    rows = pd.read_parquet(DOCS / "results" / study / ledger.TABLE)
    usual = dict(backbone=backbone, size=size, task="classify", protocol="finetune", optimizer="muon", regime="scratch")
    for name, value in {**usual, "recipe": "plain", **where}.items():
        rows = rows[rows[name] == value]
    compared = rows[rows["comparison"].fillna("").str.contains(comparison)].set_index(["draw", "seed"])
    assert len(compared) >= 3, (study, backbone, size, comparison)
    assert compared.index.is_unique
    return 100 * compared[["top1", "train_top1"]].astype(float)


def tuned_rows(backbone: str) -> list[dict[str, Any]]:
    """Return the rows of the tuning table of a settled backbone at 1,000 labels of CIFAR-10."""
    cell = dict(dataset="cifar10_12k", backbone=backbone, size=1000, optimizer="muon", regime="scratch", priors="")
    rows = studies().other_recipes.rows()
    return [row for row in rows if row.get("settled") and all(tuning.value(row, n) == v for n, v in cell.items())]


def after_mae(images: int) -> pd.DataFrame:
    """Return the ViT's cell after MAE with so many images, on Fashion-MNIST."""
    rows = pd.read_parquet(DOCS / "results" / CLOTHES / ledger.TABLE).set_index("run_id")
    tuned = rows[(rows["regime"] == "mae") & (rows["task"] == "classify")]
    seen = rows.loc[tuned["pretraining"], "samples_seen"].to_numpy()
    return 100 * tuned[seen == images].set_index(["draw", "seed"])[["top1", "train_top1"]].astype(float)


CLOTHES, PHOTOGRAPHS = "small_data_fashion", "small_data_cifar10"
STRONG, MORE, FEW, BETWEEN, ANOTHER = (
    f"small_data_cifar10_{part}" for part in ("strong", "9000", "desk", "3000", "efficientnet")
)


def gap(study: str, size: int, comparison: str = "settled", recipe: str = "plain") -> pd.DataFrame:
    resnet, vit = (cell(study, name, size, comparison, recipe=recipe) for name in ("resnet_micro", "vit_micro"))
    return resnet - vit


def linear(size: int, study: str = CLOTHES) -> pd.DataFrame:
    return cell(study, "pixels", size, "", protocol="linear_probe", optimizer="adamw")


def trials(study: str, backbone: str) -> pd.DataFrame:
    """Return the mean accuracies of a backbone's trials at its best rate, on the hold-out: images seen → accuracies."""
    rows = pd.read_parquet(DOCS / "results" / study / ledger.TABLE)
    (rate,) = rows.loc[rows["comparison"].eq("settled") & rows["backbone"].eq(backbone), "learning_rate"].unique()
    tried = rows[rows["backbone"].eq(backbone) & rows["learning_rate"].eq(rate) & rows["comparison"].fillna("").eq("")]
    return tried.groupby("samples_seen")[["top1", "train_top1"]].mean()


def interval(difference: pd.DataFrame) -> str:
    """Return Student's t over draws in the page's words, with its mean: '4.3 1.1 to 7.5'."""
    one = difference["top1"].dropna()  # replicates that one side lacks
    low, high = stats.ttest_1samp(one, 0).confidence_interval(0.95)
    return f"{one.mean():.1f} {low:.1f} to {high:.1f}".replace("-", "−")


def test_what_the_page_makes_of_the_small_data_shortfall_holds() -> None:
    """Every interval of the section is computed here, and sentences without one are held against the tables."""
    page = re.sub(r"\s+", " ", text_of("docs/studies/small_data.md").partition("## What to make of it")[2])
    page = page.partition("## Run it")[0]
    vit, mlp = ({n: cell(CLOTHES, name, n) for n in (100, 1000)} for name in ("vit_micro", "mlp_micro"))
    mae, zero, equal = after_mae(80_000), after_mae(0), cell(CLOTHES, "vit_micro", 1000, "equal")
    strong = {name: cell(STRONG, name, 1000, recipe="strong") for name in ("vit_micro", "resnet_micro")}
    better = {name: under - cell(PHOTOGRAPHS, name, 1000) for name, under in strong.items()}
    another = cell(ANOTHER, "efficientnet_micro", 1000)
    few = {name: cell(FEW, name, 100) for name in ("vit_micro", "resnet_micro")}
    priors = cell(FEW, "vit_micro", 1000, "equal", priors="mean_pooling+sincos_positions")
    told = {
        "the ViT is {} points more accurate under `strong` (CI {})": better["vit_micro"],
        "and the ResNet {} points (CI {})": better["resnet_micro"],
        "So the shortfall is {} points smaller under `strong` (CI {})": gap(PHOTOGRAPHS, 1000)
        - gap(STRONG, 1000, recipe="strong"),
        "It is {} points more accurate than the ViT under the same recipe (CI {})": another
        - cell(PHOTOGRAPHS, "vit_micro", 1000),
        "no difference from the ResNet is shown (CI {1})": another - cell(PHOTOGRAPHS, "resnet_micro", 1000),
        "the shortfall is {} points larger at 1,000 labels than at 100 (CI {})": gap(PHOTOGRAPHS, 1000) - gap(FEW, 100),
        "a linear classifier on pixels is shown there (CI {1}), and the ResNet": few["vit_micro"] - linear(100, FEW),
        "the ResNet is {} points ahead of that classifier (CI {})": few["resnet_micro"] - linear(100, FEW),
        "The settled ViT is {} points ahead of a settled MLP on pixels (CI {})": cell(BETWEEN, "vit_micro", 3000)
        - cell(BETWEEN, "mlp_micro", 3000),
        "it is {} points more accurate (CI {})": priors - cell(PHOTOGRAPHS, "vit_micro", 1000, "equal"),
        "That is {} points more than the plain ViT settled under `plain` reaches, which saw four times as many images "
        "(CI {})": priors - cell(PHOTOGRAPHS, "vit_micro", 1000),
        "and {} points less than under `strong` (CI {})": strong["vit_micro"] - priors,
        "is {} points smaller at 1,000 labels than at 100 (CI {})": gap(CLOTHES, 100) - gap(CLOTHES, 1000),
        "a settled MLP on pixels and the ViT is shown (CI {1})": mlp[1000] - vit[1000],
        "and the ResNet is shown there (CI {1})": cell(CLOTHES, "resnet_micro", 100) - linear(100),
        "With 300 labels the ViT is {} points behind the ResNet (CI {})": gap("small_data_shapes_300", 300),
        "Under `plain` and at 1,000 labels it is {} points larger on Fashion-MNIST (CI {})": gap(CLOTHES, 1000, "equal")
        - gap(CLOTHES, 1000),
        "and {} points smaller on CIFAR-10 (CI {})": gap(PHOTOGRAPHS, 1000) - gap(PHOTOGRAPHS, 1000, "equal"),
        "a ViT is {} points more accurate after MAE (CI {})": mae - equal,
        "no gain is shown (CI {1})": zero - equal,
        "MAE is {} points ahead of that (CI {})": mae - zero,
    }
    for words, difference in told.items():
        assert words.format(*interval(difference).split(" ", 1)) in page
        is_shown = stats.ttest_1samp(difference["top1"].dropna(), 0).pvalue < 0.05
        assert is_shown == ("{1}" not in words)
    assert page.count("(CI ") == len(told), "every interval is tested"
    sides = gap(BETWEEN, 3000)["top1"], gap(PHOTOGRAPHS, 1000)["top1"]
    low, high = stats.ttest_ind(*sides, equal_var=False).confidence_interval(0.95)
    assert low < 0 < high, "not shown"
    larger = f"{sides[0].mean() - sides[1].mean():.1f} points larger, CI {low:.1f} to {high:.1f}"
    assert f"is shown ({larger.replace('-', '−')})" in page

    for backbone in ("vit_micro", "resnet_micro"):
        for under in (cell(PHOTOGRAPHS, backbone, 1000), strong[backbone], few[backbone]):
            assert under["train_top1"].mean() > 99.5, "by heart"
        budgets = {row["recipe"]: row["samples_seen"] for row in tuned_rows(backbone)}
        assert budgets["strong"] == budgets["plain"] * (16 if backbone == "vit_micro" else 4), "after so many times"
        best = {row["recipe"]: row["holdout_top1"] for row in tuned_rows(backbone)}
        gained = {row["recipe"]: f"{100 * row['holdout_gain']:.1f}" for row in tuned_rows(backbone)}
        assert gained["strong" if backbone == "vit_micro" else "plain"] == ("0.8" if backbone == "vit_micro" else "0.9")
        assert best["strong"] > best["plain"], "the hold-out prefers it"
        gain = cell(MORE, backbone, 9000)["top1"].mean() - cell(PHOTOGRAPHS, backbone, 1000)["top1"].mean()
        assert gain > 20, "from nine times the labels"
    assert cell(MORE, "resnet_micro", 9000)["train_top1"].min() > 99.5
    assert cell(BETWEEN, "resnet_micro", 3000)["train_top1"].min() > 99.5
    for study, size in ((MORE, 9000), (BETWEEN, 3000)):
        assert 75 < cell(study, "vit_micro", size)["train_top1"].mean() < 85, "four fifths"
    parts = gap(BETWEEN, 3000).mean()
    assert parts["train_top1"] > 0.9 * parts["top1"], "nearly all of the shortfall"
    fitted = trials(BETWEEN, "vit_micro")
    assert fitted.loc[128_000, "train_top1"].round(2) == 0.99
    assert fitted.loc[128_000, "top1"] < fitted.loc[64_000, "top1"], "no better on the hold-out"
    assert (cell(MORE, "vit_micro", 9000)["top1"] - cell(MORE, "mlp_micro", 9000)["top1"]).mean() > 9.5
    (row,) = (row for row in studies().other_recipes.rows() if (row["backbone"], row["size"]) == ("vit_micro", 9000))
    assert row["holdout_gain"] < 0.0005, "the last doubling gained nothing"
    assert gap(CLOTHES, 1000)["train_top1"].mean() < 0.1 * gap(CLOTHES, 1000)["top1"].mean()
    parts = gap(CLOTHES, 100)["train_top1"], gap(CLOTHES, 100)["top1"] - gap(CLOTHES, 100)["train_top1"]
    for one in (*parts, (mlp[100] - vit[100])["top1"], (vit[1000] - mae)["top1"], (vit[1000] - zero)["top1"]):
        assert stats.ttest_1samp(one, 0).confidence_interval(0.95).low > 0
    table = pd.read_parquet(DOCS / "results" / CLOTHES / ledger.TABLE)
    of_vit = table[(table["backbone"] == "vit_micro") & (table["size"] == 1000) & (table["protocol"] == "finetune")]
    seen = {word: set(of_vit.loc[of_vit["comparison"].eq(word), "samples_seen"]) for word in ("settled", "equal")}
    assert max(seen["settled"]) == 16 * max(seen["equal"]), "16 times as often"


def test_the_observed_difference_of_the_seed_s_claim_is_excluded_in_every_table() -> None:
    """docs/studies/seed_claim.md: MobileNetV3 0.89 minus EfficientViT 0.58."""
    pair = dict(of="efficientvit", against="mobilenetv3")
    new, photographs, old = (
        studies().table(*studies().STUDIES[name].places)
        for name in ("seed claim settled", "seed claim flowers", "seed claim")
    )
    found = [
        statistics.gaps(rows, comparison=name, **pair) for rows in (new, photographs) for name in ("settled", "equal")
    ]
    found += [statistics.shortfall(old, **pair), statistics.likewise(old, **pair)]
    for gap in found:
        (row,) = gap[gap["size"].isin([96, 300])].to_dict("records")
        assert row["n"] == 3
        assert -0.095 < row["low_any"] < 0 < row["high_any"] < 0.095, "no difference is shown, and none of 31 points"


def test_the_page_of_the_seed_s_claim_says_what_its_flowers_are() -> None:
    page = " ".join((DOCS / "studies" / "seed_claim.md").read_text("utf-8").split())
    rows = studies().table(*studies().STUDIES["seed claim flowers"].places)
    equal = rows[rows["comparison"].eq("equal")]
    times = (equal["samples_seen"] / equal["size"]).mean()
    assert f"saw each photograph about {times:.0f} times" in page
    assert f"on {96 // 8} photographs of each class, at {equal['image_size'].iloc[0]} px" in page
    assert set(rows["classes"]) == {8}
    last = studies().page(*studies().STUDIES["seed claim flowers"].places)
    epochs = next(part for part in last.sections if part.name == "epochs").tables[0]
    lower = [-float(row[-2].value) for row in epochs.rows]
    assert f"give {100 * min(lower):.0f} to {100 * max(lower):.0f} points more than the 120 of the test" in page
    assert set(rows["test_images"].dropna()) == {120}


def test_a_study_without_a_plain_vit_is_settled_if_its_pair_is() -> None:
    study = studies().STUDIES["seed claim settled"]
    assert studies().is_settled(study)
    assert not studies().is_settled(study._replace(pair=("efficientvit", "resnet"))), "no such cells"
    assert not studies().is_settled(study._replace(pair=())), "no headline, which is of a plain ViT"


def test_a_study_too_accurate_for_a_headline_is_settled_all_the_same() -> None:
    study = studies().STUDIES["small data shapes"]
    table = studies().table(*study.places)
    assert studies().is_settled(study)
    assert not studies().is_settled(study._replace(pair=())), "no headline"
    (told, pixels) = studies().sentences(study)
    recipe, *said = re.split(r"(?<=\.) (?=At )", told)
    page = " ".join(text_of("docs/studies/small_data.md").split())
    assert recipe == 'Each was trained under the "plain" recipe alone until it stopped improving.'
    settled = table[table["comparison"].eq("settled")]
    sizes = sorted(settled["size"].unique())
    assert len(said) == len(sizes)
    for size, text in zip(sizes, said, strict=True):
        vit, resnet = (
            settled[settled["backbone"].eq(name) & settled["size"].eq(size)] for name in ("vit_micro", "resnet_micro")
        )
        assert f"{100 * vit['top1'].mean():.1f} % after 512,000 images seen" in text
        assert f"{100 * resnet['top1'].mean():.1f} % after {resnet['samples_seen'].iloc[0]:,}." in text
        top1 = [one.set_index("draw")["top1"].astype(float) for one in (resnet, vit)]
        low, high = stats.ttest_1samp(top1[0] - top1[1], 0).confidence_interval(0.95)
        assert (low < 0 < high) == ("no difference between the plain ViT and the ResNet is shown" in text)
        linear_probe = table["backbone"].eq("pixels") & table["protocol"].eq("linear_probe") & table["size"].eq(size)
        assert f"{100 * table[linear_probe]['top1'].mean():.1f} % at {size:,} labels" in pixels
        if size == 300:
            ends = f"(CI {100 * low:.1f} to {100 * high:.1f})"
            assert f"{100 * (top1[0] - top1[1]).mean():.1f} points behind the ResNet {ends}" in page
            p = min(1.0, len(sizes) * stats.ttest_1samp(top1[0] - top1[1], 0).pvalue)
            assert p > 0.05
            assert f"which is not shown after Holm's correction over the two sizes (p = {p:.2f})" in page
            assert "which is not shown after Holm's correction over the sizes" in text
    still = pd.read_parquet(DOCS / "results" / "locality_shapes" / ledger.TABLE)
    as_is = still[still["backbone"].eq("vit_micro") & still["task"].eq("classify") & still["intervention"].eq("")]
    as_is = as_is[as_is["protocol"].eq("finetune")]
    assert (set(as_is["size"]), set(as_is["samples_seen"])) == ({300}, {16_000})
    assert f"is right {100 * as_is['top1'].mean():.0f} % of the time" in page
    plain = [
        row
        for row in studies().other_recipes.rows()
        if (row["dataset"], row["backbone"], row["recipe"]) == ("shapes:position=free", "resnet_micro", "plain")
    ]
    assert {row["size"] for row in plain} == {300, 1000}
    own = [trial for row in plain for trial in row["trials"] if trial["learning_rate"] == row["learning_rate"]]
    first = [trial["top1"] for trial in own if trial["samples_seen"] == 16_000]
    assert len(first) == 2
    assert min(first) > 0.99, "the ResNet after the smallest number that was tried"


def test_what_other_pages_say_of_a_linear_classifier_on_clothes_holds() -> None:
    """README and docs/index.md."""
    resnet, vit = (cell(CLOTHES, name, size) for name, size in (("resnet_micro", 100), ("vit_micro", 1000)))
    for difference in (resnet - linear(100), vit - linear(1000)):
        low, high = stats.ttest_1samp(difference["top1"], 0).confidence_interval(0.95)
        assert low < 0 < high, "no difference is shown"
    ahead = (cell(CLOTHES, "resnet_micro", 1000) - linear(1000))["top1"]
    assert stats.ttest_1samp(ahead, 0).confidence_interval(0.95).low > 0, "a settled ResNet is ahead at 1,000 labels"


@pytest.mark.parametrize("name", ["backbones", "data"])
def test_every_measured_row_stands_in_its_table(name: str) -> None:
    """The lines between the marker comments against the file, read here by other means."""
    table = text_of("docs/speed.md").split(f"<!-- bench {name}: begin (docs/write_docs.py) -->")[1].split("<!-- ")[0]
    for row in json.loads((DOCS / "results" / f"bench_{name}.json").read_text(encoding="utf-8")):
        if row["mode"] in ("train", "inference", "batch"):
            (line,) = [line for line in table.splitlines() if line.startswith(f"| {row['case']} |")]
            assert f"| {row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f}) |" in line
        if row["mode"] == "micro":
            (line,) = [line for line in table.splitlines() if line.startswith(f"| `{row['case'].split()[0]}` |")]
            assert f"| {row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f}) |" in line
            assert f" {row['parameters']:,} |" in line or "64px" in row["case"]
        assert row.get("machine", "") in table


def test_the_time_of_the_main_study_is_the_measured_one_and_within_its_limits() -> None:
    (row,) = json.loads((DOCS / "results" / "bench_study.json").read_text(encoding="utf-8"))
    said = text_of("docs/speed.md").partition("## A whole study")[2]
    assert (
        f"`make sweep-small-data` took {row['minutes']:.0f} minutes with 2 workers, {row['runs']} runs in all." in said
    )
    assert " after 3 minutes at 100 labels and 26 minutes at 1,000 labels." in said
    assert row["minutes"] < 60
    assert row["settled_minutes"]["100"] < 15
    assert row["runs"] == len(pd.read_parquet(DOCS / "results" / CLOTHES / ledger.TABLE))


def test_what_bf16_costs_is_said_with_what_the_processor_has() -> None:
    rows = [
        dict(reference="ours fp32", ratio=ratio, note="no unit of this CPU multiplies bf16: a cost here")
        for ratio in (0.4, 0.8)
    ]
    writer()
    half = sys.modules["bench_tables"].half
    assert half(rows) == (
        "With bf16 autocast our models are 0.40 to 0.80 times as fast as with fp32 "
        "(no unit of this CPU multiplies bf16: a cost here)"
    )
    assert half([]) == ""


def test_the_matrix_says_what_planning_does() -> None:
    text = text_of("docs/which_one.md")
    table = text.split("<!-- matrix: begin (docs/write_docs.py) -->")[1].split("<!-- matrix: end -->")[0]
    head, _, *lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    listed = {name: row.architecture for name, row in catalogue.BACKBONES.items() if name.endswith("_micro")}
    micro = {kind: name for name, kind in listed.items() if kind in catalogue.FAMILIES}
    said = {(line[0].strip("`"), head[k]): line[k] for line in lines for k in range(1, 1 + len(micro))}
    assert set(said) == {(regime, architecture) for regime in catalogue.REGIMES for architecture in micro}
    for (regime, architecture), word in said.items():
        try:
            catalogue.check_regime(micro[architecture], regime)
        except UserError:
            assert word == "–"
        else:
            assert word == "yes"


# --- README ----------------------------------------------------------------------------------------------------------


def test_readme_is_short_and_begins_with_the_question_and_the_result() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150
    assert lines[2].startswith("**How much accuracy")
    places = [
        README.index(text) for text in ("<picture>", "## What this cannot show", "## Two commands", "most wanted")
    ]
    assert places == sorted(places), "the result first, then its weaknesses, then the commands"


def test_the_two_commands_come_first() -> None:
    commands = [line.split("#")[0].strip() for line in re.findall(r"^make .*$", README, re.M)]
    assert commands[:2] == ["make sweep-small-data", "make test"]


def test_every_notebook_is_introduced() -> None:
    named = set(re.findall(r"`notebooks/([\w]+\.ipynb)`", text_of("docs/notebooks.md")))
    assert named == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}


# --- the design page -------------------------------------------------------------------------------------------------


def test_references_to_the_design_name_a_section_that_is_there() -> None:
    headings = set(re.findall(r"^## (.*)$", text_of("docs/design.md"), re.M))
    sources = [*(ROOT / "bias_lab").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    texts = {path: path.read_text(encoding="utf-8") for path in sources if path != Path(__file__)}
    named = {name for text in texts.values() for name in re.findall(r"docs/design\.md, ([A-Z][\w' ]*)", text)}
    assert len(named) >= 5
    assert named - headings == set()
    assert [path for path, text in texts.items() if re.search(r"\bDESIGN\b", text)] == []


# --- the API from docstrings -----------------------------------------------------------------------------------------


def test_docstrings_become_markdown() -> None:
    pytest.importorskip("sphinx", reason="the site's generator is absent: pip install -e '.[docs]'")
    prose = module("from_source").prose
    assert prose("Return x.\n\nimages: (B, C).\nlabels: (B,) <here>.") == (
        "Return x.\n\n- **images**: (B, C).\n- **labels**: (B,) \\<here>."
    )
    assert prose("Go.\n\nx: a long\nline.\nRaises it.") == "Go.\n\n- **x**: a long\nline.\n\nRaises it."
    assert prose("Add.\n\n>>> add(1, 2)\n3\n\nDone.") == "Add.\n\n```python\n>>> add(1, 2)\n3\n```\n\nDone."


def test_a_name_is_found_where_it_is_defined() -> None:
    pytest.importorskip("sphinx", reason="the site's generator is absent: pip install -e '.[docs]'")
    source = module("from_source")
    assert source.find("bias_lab", "open_results")[0] == "bias_lab.results"
    assert source.find("bias_lab.statistics", "shortfall")[0] == "bias_lab.statistics.gaps"


# --- the site --------------------------------------------------------------------------------------------------------

BUILD = """
import socket, sys
def refuse(*_): raise OSError("the build asked for the network")
socket.socket.connect = socket.getaddrinfo = refuse
from sphinx.cmd.build import main
code = main(["-q", "-W", "--keep-going", "-b", "html", sys.argv[1], sys.argv[2]])
heavy = {"torch", "timm", "lightning"} & set(sys.modules)
sys.exit(code or (f"{heavy} was imported" if heavy else 0))
"""
LOOKED_FOR = {  # what a reader looks for → words on the page that has it
    "the main result": ("index", "points behind ResNet"),
    "the command for my own images": ("your_own_images", "bias-lab datasets check"),
    "how to join a changed ViT": ("your_own_backbone", "conv_stem_vit"),
    "what settled means": ("fairness", "the last doubling"),
    "how much MAE recovers on CIFAR-10": ("studies/pretraining", "CIFAR-10"),
    "how to keep W&B quiet": ("wandb", "no W&B at all"),
    "what bl.load returns": ("api", "load"),
    "what lies in a run's folder": ("design", "result.json"),
}


class Page(HTMLParser):
    """Collect the addresses of links and of what a page loads, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.text = ""

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            self.links.add(str(given["href"]).split("#")[0])
        else:
            self.loaded |= {str(given[key]) for key in ("src", "href") if given.get(key)}


def read(page: Path) -> Page:
    parser = Page()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site without network, with warnings as errors and without torch."""
    pytest.importorskip("sphinx", reason="the site's generator is absent: pip install -e '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-c", BUILD, DOCS, out], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert [address for address in read(page).loaded if address.startswith(("http", "//"))] == [], page.name


@pytest.mark.slow
@pytest.mark.parametrize("thing", LOOKED_FOR)
def test_what_a_reader_looks_for_is_at_most_two_clicks_away(thing: str, site: Path) -> None:
    page, words = LOOKED_FOR[thing]
    first = read(site / "index.html").links
    second = {(site / one).parent / link for one in first if (site / one).is_file() for link in read(site / one).links}
    reached = {(site / link).resolve() for link in first | {"index.html"}} | {link.resolve() for link in second}
    target = site / f"{page}.html"
    assert target.resolve() in reached
    assert words in read(target).text


@pytest.mark.slow
def test_charts_stand_in_the_page_in_its_own_colours(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    assert page.count('<svg class="chart') == 2, "wide and narrow"
    assert "var(--cnn)" in page
    assert "prefers-color-scheme:dark){svg{" not in page


def test_a_recipe_that_reaches_more_on_the_hold_out_than_that_of_the_settled_cells_is_named() -> None:
    from tests.report.evidence.studies import Cell, study

    said = sys.modules[studies().other_recipes.__name__].said
    table = study({"vit_micro": Cell(0.9, 0.5)}, sizes=(100,)).assign(priors="", intervention="", optimizer="muon")
    cell = dict(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, optimizer="muon", regime="scratch")
    plain = dict(cell, recipe="plain", holdout_top1=0.467, samples_seen=64_000, settled=True)
    strong = dict(cell, recipe="strong", holdout_top1=0.53, samples_seen=512_000, settled=True)
    assert said(table, [plain, strong]) == (
        "On the hold-out, vit_micro reaches 53.0 % under `strong` after 512,000 images and 46.7 % under `plain`. "
        "These are other images than the test images above."
    )
    assert said(table, [plain, dict(strong, settled=False)]).endswith(
        "Under `strong` nothing is settled yet: the ladders have not ended."
    )
    assert said(pd.concat([table, table.assign(recipe="strong")]), [plain, strong]) == "", "the study has both"
    assert said(table, [plain, dict(strong, holdout_top1=0.4)]) == ""
    assert said(table, [plain, dict(strong, size=1000)]) == said(table, [plain]) == said(table, []) == ""


def test_the_front_pages_say_that_another_recipe_reaches_more_as_long_as_it_does() -> None:
    main, others = writer().MAIN, studies().other_recipes
    told = others.said(studies().table(*main.places), others.rows())
    for file in ("README.md", "docs/index.md"):
        assert ("**One recipe.**" in text_of(file)) is bool(told)
