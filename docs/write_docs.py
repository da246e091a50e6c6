"""Write the numbers and figures of README.md and of the site from the committed tables and measurements.

Tests compare them. Run it after a change in docs/results/: python docs/write_docs.py
"""

import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import bench_tables  # noqa: E402
import mask_pages  # noqa: E402
import study_list  # noqa: E402
import study_pages  # noqa: E402

from bias_lab import catalogue  # noqa: E402
from bias_lab.report import pages  # noqa: E402
from bias_lab.report.pages import Cell, Table  # noqa: E402

ROOT = HERE.parent
MAIN = study_list.STUDIES["small data cifar10"]
BESIDE = study_list.STUDIES["small data fashion"]  # of the images that come with the package


def result() -> str:
    """Return what README and the first page say of the main study: a figure and three sentences."""
    figure = study_pages.figure(MAIN)
    picture = (
        f'<picture><source media="(max-width: 600px)" srcset="{figure}-narrow.svg">'
        f'<img alt="{study_pages.words(MAIN)}" src="{figure}-wide.svg" width="860"></picture>'
    )
    return f"{picture}\n\n*{study_pages.caption(MAIN)}*\n\n{said()}\n\n{beside()}"


def said() -> str:
    """Return the sentences on the main study, after a warning if it is not settled."""
    text = f"**{MAIN.data.split(',')[0]}.** {' '.join(study_pages.sentences(MAIN))}"
    return text if study_pages.is_settled(MAIN) else f"> **Not settled.** {study_pages.UNSETTLED}\n\n{text}"


def beside() -> str:
    """Return the headline on the images that come with the package, at each of its sizes, with its warning."""
    head = next(head for head in study_pages.page(*BESIDE.places).heads if head.headline)
    told = " ".join([head.headline, *study_pages.further(head), *head.banner])
    return f"**{BESIDE.data.split(',')[0]}**, whose images come with the package. {told}"


def first_page() -> str:
    """Return the same for the site, whose charts follow its own switch between light and dark."""
    return f"{said()}\n\n{study_pages.image(MAIN, '')}\n\n{beside()}"


def overview() -> str:
    """Return the list of all studies, with masks last."""
    return "\n\n".join(filter(None, (study_pages.overview(), mask_pages.overview())))


def matrix() -> str:
    """Return the table of regimes and architectures that planning accepts, a row for each regime."""
    names = list(catalogue.FAMILIES)
    rows = []
    for regime in catalogue.REGIMES.values():
        able = [not regime.architectures or name in regime.architectures for name in names]
        why = "" if all(able) else regime.why
        rows.append((Cell(f"`{regime.name}`"), *(Cell("yes" if can else "–") for can in able), Cell(why)))
    columns = (("regime", ""), *((name, "") for name in names), ("why not", ""))
    return pages.markdown(Table(title="Backbone × regime", columns=columns, rows=tuple(rows)))


BLOCKS: dict[str, tuple[str, Callable[[], str]]] = {  # name in the marker comments → its file, the text between
    "result": ("README.md", result),
    "first page": ("docs/index.md", first_page),
    "overview": ("docs/results.md", overview),
    "segmentation": ("docs/segmentation.md", mask_pages.segmentation),
    "matrix": ("docs/which_one.md", matrix),
    "pixels": ("docs/studies/small_data.md", study_pages.pixels),
    "bench backbones": ("docs/speed.md", bench_tables.bench_backbones),
    "bench data": ("docs/speed.md", bench_tables.bench_data),
    "bench study": ("docs/speed.md", bench_tables.bench_study),
} | {
    name: (f"docs/studies/{file}.md", partial(study_pages.block, study_list.STUDIES[name]))
    for file, names in study_pages.PAGES.items()
    for name in names
}


def marks(name: str) -> tuple[str, str]:
    """Return the comments before and after a block."""
    return f"<!-- {name}: begin (docs/write_docs.py) -->", f"<!-- {name}: end -->"


def written(file: str, text: str, names: Collection[str] = tuple(BLOCKS)) -> str:
    """Return a file's text with its own ones of these blocks written again. file: its path below the root."""
    for name in names:
        if BLOCKS[name][0] == file:
            begin, end = marks(name)
            before, rest = text.split(begin)
            text = "\n\n".join([before + begin, BLOCKS[name][1](), end + rest.split(end)[1]])
    return text


def files() -> list[str]:
    return list(dict.fromkeys(file for file, _ in BLOCKS.values()))


def main() -> None:
    for file in files():
        path = ROOT / file
        path.write_text(written(file, path.read_text(encoding="utf-8")), encoding="utf-8")
        sys.stdout.write(f"{file}\n")
    for study in study_list.STUDIES.values():
        for file, drawing in study_pages.drawings(study):
            (ROOT / file).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / file).write_text(drawing, encoding="utf-8")
            sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main()
