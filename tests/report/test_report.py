"""The report: one file that asks nothing of the network, in every state of a folder, opened in a real browser."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bias_lab import ledger, results
from bias_lab.definition import Run, grid, run_id
from bias_lab.errors import UserError
from bias_lab.report import report
from tests.planted import curve, rows, table, write_failure, write_plan, write_run
from tests.report import browser
from tests.report.evidence.studies import Cell, pair, study

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=0.001)
RUNS = grid(ONE, backbone=("vit_micro", "resnet_micro"), size=(100, 1000), draw=(0, 1, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of 12 runs and one that failed, its report written."""
    made = tmp_path_factory.mktemp("sweep")
    lost = grid(ONE, draw=(7,))
    write_plan(made, [*RUNS, *lost])
    for run in RUNS:
        write_run(made, run, (0.5 if run.backbone == "vit_micro" else 0.8) + 0.05 * (run.draw == 1))
    write_failure(made, lost[0], "error", "<script>alert('class </script> name')</script>")
    report.write(made)
    return made


class _Page(HTMLParser):
    """Collects links, sources, ids and headings; complains of tags that don't close."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.ids: set[str] = set()
        self.anchors: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.outside += [
            str(named[k]) for k in ("src", "href") if named.get(k) and not str(named[k]).startswith(("#", "data:"))
        ]
        self.anchors |= {str(named["href"])[1:]} if str(named.get("href", "")).startswith("#") else set()
        self.ids |= {str(named["id"])} if "id" in named else set()
        if tag not in {"meta", "link", "br", "img", "line", "circle", "polygon", "polyline"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"line", "circle", "polygon", "polyline"}:
            assert self.open.pop() == tag


def parsed(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text())
    assert page.open == []
    return page


def test_it_is_one_file_that_leads_nowhere(folder: Path) -> None:
    page = parsed(folder / ledger.REPORT)
    assert page.outside == []
    assert page.anchors <= page.ids
    text = (folder / ledger.REPORT).read_text()
    assert not re.search(r"https?://|@import|url\(", text)


def test_pictures_of_a_pretraining_stand_in_the_page(tmp_path: Path) -> None:
    from PIL import Image

    before = Run(dataset="fashion_mnist_12k", backbone="vit_micro", task="pretrain", regime="mae", source="pool")
    write_plan(tmp_path, [before, ONE])
    for run in (before, ONE):
        write_run(tmp_path, run)
    drawn = ledger.run_folder(tmp_path, run_id(before)) / "reconstruction.png"
    Image.new("L", (8, 8)).save(drawn)
    page = report.write(tmp_path).read_text()
    assert f"data:image/png;base64,{base64.b64encode(drawn.read_bytes()).decode()}" in page
    assert "Reconstruction: vit_micro, MAE (on pool)" in page
    assert parsed(tmp_path / ledger.REPORT).outside == []
    drawn.unlink()
    assert "Pictures of the pretrainings" not in report.write(tmp_path).read_text()


def test_the_worst_the_median_and_the_best_test_image_of_one_run_stand_in_the_page(tmp_path: Path) -> None:
    """The run with most labelled images is shown. Where its pictures are gone, one line says so."""
    from PIL import Image

    small = Run(task="segment", dataset="shape_masks", backbone="vit_micro", size=20)
    large = replace(small, size=100)
    write_plan(tmp_path, [small, large])
    for run in (small, large):
        write_run(tmp_path, run)
        for which in ("worst", "median", "best"):
            Image.new("RGBA", (run.size, 4)).save(ledger.run_folder(tmp_path, run_id(run)) / f"test_{which}.png")
    page = report.write(tmp_path).read_text()
    shown = ledger.run_folder(tmp_path, run_id(large)) / "test_worst.png"
    assert f"data:image/png;base64,{base64.b64encode(shown.read_bytes()).decode()}" in page
    assert f"test images of the run {run_id(large)} (" in page
    assert page.count("data:image/png;base64,") == 3
    names = [part.name for part in report.read(tmp_path).sections]
    assert names.index("test-images") < names.index("provenance")
    shown.unlink()
    gone = report.write(tmp_path).read_text()
    assert f"There are no pictures of test images here: the folder of run {run_id(large)} has none or is gone." in gone
    assert "data:image/png;base64," not in gone


def test_words_of_the_user_are_escaped(folder: Path) -> None:
    text = (folder / ledger.REPORT).read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_the_same_folder_gives_the_same_bytes(folder: Path) -> None:
    before = (folder / ledger.REPORT).read_bytes()
    results.write(folder)
    report.write(folder)
    assert (folder / ledger.REPORT).read_bytes() == before


def test_a_table_alone_gives_the_same_report(folder: Path, tmp_path: Path) -> None:
    (tmp_path / ledger.TABLE).write_bytes(results.write(folder).read_bytes())
    assert report.write(tmp_path).read_bytes() == report.write(folder).read_bytes()


def test_parts_of_a_study_make_one_report(folder: Path, tmp_path: Path) -> None:
    """Two folders with half of the runs each say what one with all of them says; pictures come from both."""
    from PIL import Image

    parts = [tmp_path / name for name in ("vit", "cnn")]
    for place, backbone in zip(parts, ("vit_micro", "resnet_micro"), strict=True):
        before = replace(ONE, backbone=backbone, task="pretrain", regime="simmim", source="pool", size=0)
        mine = [*(run for run in RUNS if run.backbone == backbone), before]
        write_plan(place, mine)
        for run in mine:
            write_run(place, run, (0.5 if run.backbone == "vit_micro" else 0.8) + 0.05 * (run.draw == 1))
        Image.new("L", (8, 8)).save(ledger.run_folder(place, run_id(before)) / "reconstruction.png")
    whole, joined, alone = report.read(folder), report.read(*parts), report.read(parts[0])
    assert joined.answers == whole.answers != alone.answers
    captions = [picture[0] for section in joined.sections for picture in section.pictures]
    assert [name for text in captions for name in ("vit_micro", "resnet_micro") if name in text] == [
        "vit_micro",
        "resnet_micro",
    ]
    made = report.write(*parts, out=tmp_path / "both.html")
    assert (made, [(place / ledger.REPORT).exists() for place in parts]) == (tmp_path / "both.html", [False, False])


def test_the_first_minute(tmp_path: Path) -> None:
    write_plan(tmp_path, RUNS)
    text = report.write(tmp_path).read_text()
    assert "missing: 12 of 12 runs" in text
    assert "How far does a plain ViT fall short" in text
    assert parsed(tmp_path / ledger.REPORT).ids
    assert report.summary(tmp_path).endswith("missing: 12 of 12 runs")
    write_run(tmp_path, RUNS[0])
    assert "missing: 11 of 12 runs" in report.write(tmp_path).read_text()


def test_formats(folder: Path) -> None:
    told = report.write(folder, format="md").read_text()
    assert told.startswith("# How far does a plain ViT fall short of CNNs when labels are few?")
    assert "![Accuracy against labelled training images, CNN against ViT, by regime](figures/accuracy.svg)" in told
    assert "| N | points |" in told
    made = report.write(folder, format="png")
    assert {path.name for path in made.iterdir()} == {"accuracy.svg", "accuracy.png", "shortfall.svg", "shortfall.png"}
    with pytest.raises(UserError, match="unknown format 'htm'; did you mean 'html'"):
        report.write(folder, format="htm")


def test_the_summary_for_the_terminal(folder: Path) -> None:
    told = report.summary(folder).split("\n\n")
    assert told[0].startswith("There is no headline: no cell of plain ViT and ResNet is settled. Run a profile ")
    assert told[1].startswith(
        "At equal images, plain ViT falls short of ResNet at N = 100 and 1,000. At 100 labels it is 30.0 points"
    )
    assert told[2].splitlines()[0] == "ResNet minus plain ViT, from scratch, at equal images"
    assert told[-1] == "failed: 1 of 13, 0 diverged"


def test_nothing_heavy_is_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys, bias_lab.report.report, bias_lab.results, bias_lab.statistics\n"
        "print([m for m in ('torch', 'timm', 'lightning', 'torchmetrics', 'matplotlib', 'wandb') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- in a browser -----------------------------------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(browser.browser() is None, reason="no Chromium on this machine")


@needs_browser
@pytest.mark.parametrize(("width", "height"), [(1280, 1600), (390, 1600)])
def test_a_browser_opens_it_without_complaint(folder: Path, tmp_path: Path, width: int, height: int) -> None:
    shot = tmp_path / "shot.png"
    assert browser.picture(folder / ledger.REPORT, shot, width=width, height=height) == []
    assert len(shot.read_bytes()) > 20_000  # something is drawn


PROBE = """<script>
addEventListener("load", () => {
  const told = {}, table = document.querySelector("table"), heads = [...table.tHead.rows[0].cells];
  const first = () => [...table.tBodies[0].rows].map(row => row.cells[0].textContent);
  heads[0].querySelector("button").click(); told.up = first().join();
  heads[0].querySelector("button").click(); told.down = first().join();
  told.sort = heads[0].getAttribute("aria-sort");
  const point = document.querySelector("svg.wide [data-tip]");
  point.dispatchEvent(new PointerEvent("pointerenter")); told.tip = document.querySelector("#tip").textContent;
  told.wider = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  document.title = JSON.stringify(told);
});
</script>"""


@needs_browser
@pytest.mark.parametrize("width", [1280, 500])
def test_tables_sort_points_tell_and_nothing_is_wider_than_the_page(folder: Path, tmp_path: Path, width: int) -> None:
    page = tmp_path / "probe.html"
    page.write_text((folder / ledger.REPORT).read_text().replace("</body>", PROBE + "</body>"))
    dom, console = browser.open_page(page, "--dump-dom", f"--window-size={width},900")
    told = re.search(r"<title>(.*?)</title>", dom)
    assert told is not None
    assert console == []
    assert '"up":"100,1,000","down":"1,000,100","sort":"descending"' in told[1]
    assert "100 · 81.7&nbsp;%" in told[1]
    assert '"wider":false' in told[1]


# --- the bar ----------------------------------------------------------------------------------------------------------


def big(runs: int) -> pd.DataFrame:
    """A table of this many runs: 8 backbones, 10 sizes, draws and seeds, 2,000 predictions each."""
    names = ("vit_micro", "resnet_micro", "efficientnet_micro", "mobilenetv3_micro", "swin_micro", "mobilevit_micro")
    names += ("efficientvit_micro", "my.nets:stem")
    each = runs // (len(names) * 10)
    replicates = [(k // 5, k % 5) for k in range(each)]
    made = rows(
        lambda run: curve(run.size), backbones=names, sizes=[100 * 2**k for k in range(10)], replicates=replicates
    )
    random = np.random.default_rng(0)
    packed = np.packbits(random.random((len(made), 2000)) < 0.7, axis=1)
    return table(row | {"correct": bits.tobytes()} for row, bits in zip(made, packed, strict=True))


# VmHWM, not getrusage's ru_maxrss: that one is handed on through fork and exec, and would tell of the test itself
MEASURED = """
import re, sys, time
from pathlib import Path
from bias_lab.report import report
report.write(Path(sys.argv[1]))
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(time.process_time(), peak[1])
"""


@pytest.mark.slow
def test_100_000_runs_in_a_minute_and_one_gigabyte(tmp_path: Path) -> None:
    """A process of its own: table read, every statistic, page written.

    It takes 32 s of CPU and 0.74 GB on one slow core, with two other processes at work.
    """
    import subprocess
    import sys

    big(100_000).to_parquet(tmp_path / ledger.TABLE, index=False)
    code = [sys.executable, "-c", MEASURED, str(tmp_path)]
    seconds, kilobytes = subprocess.run(code, capture_output=True, text=True, check=True).stdout.split()
    assert "100,000 of 100,000" in (tmp_path / ledger.REPORT).read_text()
    assert float(seconds) < 60
    assert int(kilobytes) < 2**20


def test_the_sentence_and_the_tiles_of_one_head_stand_beside_the_first_figure(tmp_path: Path) -> None:
    """Where a study has several heads, or no figure to stand beside, they follow one another."""
    ten = pair(Cell(0.6, 0.5), Cell(0.9, 0.7))
    results.save(results.Results(table=study(ten, equal=ten)), 0, tmp_path / "results.parquet")
    page = report.write(tmp_path).read_text()
    start, end = page.index('<div class="first beside">'), page.index('<div class="detail">')
    assert start < page.index('class="tiles"') < page.index("<figure>") < end
    assert page.count("<div") == page.count("</div")
    results.save(results.Results(table=study({}, equal=ten).iloc[:0]), 0, tmp_path / "results.parquet")
    assert 'class="first beside"' not in report.write(tmp_path).read_text()
