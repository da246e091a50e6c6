"""Keep a trained model for the notebooks: `python docs/keep_trained.py NAME RUN_FOLDER` writes notebooks/trained/NAME.

It also writes notebooks/trained/README.md again, which says what each of the kept models is. A test compares it.
"""

import sys
from pathlib import Path

from bias_lab import catalogue, ledger
from bias_lab.definition import from_json, images_seen
from bias_lab.models.keep import ABOUT, keep
from bias_lab.report import pages
from bias_lab.report.pages import Table, points, whole, word

FOLDER = Path(__file__).parent.parent / "notebooks" / "trained"
KINDS = {
    "tuning trial": "a tuning trial, which stands in until the settled cell is there",
    "run": "a single run, which stands in until the settled cell is there",
    "settled cell": "one run of a settled cell",
    "pretraining": "a pretraining",
}
HEAD = """# Trained models of the notebooks

Each folder is a small copy of a finished run. `bl.load("notebooks/trained/NAME")` gives the model. The weights are
stored in half precision, so its accuracy may differ from that of the run by a few images. A model is replaced by one
command:

    python docs/keep_trained.py NAME results/STUDY/runs/RUN

Each record has the command that was typed then. What was the profile `laptop_settled` is a part of `laptop` now, and
these runs have the same ids there.

"""


def readme(folder: Path = FOLDER) -> str:
    """Return the text of the folder's README, from the records of the kept models."""
    rows = []
    for here in sorted(path.parent for path in folder.glob(f"*/{ledger.RESULT}")):
        result, about = ledger.read_json(here / ledger.RESULT), ledger.read_json(here / ABOUT)
        run = from_json(result["run"])
        images = "hold-out" if catalogue.TASKS[run.task].evaluated_on != "test" else "test"
        rows.append(
            (
                word(f"`{here.name}`"), word(run.backbone), word(run.dataset), whole(run.size), whole(images_seen(run)),
                points(result["metrics"]["top1"]), word(images), word(KINDS[about["kind"]]),
                word(f"`{about['run_id']}`"),
            )
        )  # fmt: skip
    columns = ("name", "backbone", "dataset", "labels", "images seen", "accuracy, %", "on", "what it is", "run")
    return (
        HEAD + pages.markdown(Table(title="Models", columns=tuple((c, "") for c in columns), rows=tuple(rows))) + "\n"
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        name, run_folder = sys.argv[1:]
        keep(run_folder, FOLDER / name)
    (FOLDER / "README.md").write_text(readme(), encoding="utf-8")
    sys.stdout.write(f"{FOLDER / 'README.md'}\n")
