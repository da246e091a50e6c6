"""The sections on the user's images: confusion matrix, classes with intervals, the images most often wrong."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from bias_lab import results
from bias_lab.report import report
from bias_lab.report.own import page
from tests.report.own.own_images_on_disk import write, write_runs


def preferred(out: Path) -> pd.DataFrame:
    """The table of the study, whose hold-out prefers the ResNet."""
    table = results.read(out).table
    return table.assign(holdout_top1=np.where(table["backbone"] == "resnet_micro", 0.9, 0.5))


def test_the_matrix_is_that_of_the_cell_that_the_hold_out_prefers(tmp_path: Path) -> None:
    out, run = write(tmp_path)
    write_runs(out, run)
    classes, _ = page.of_folder(out, preferred(out))
    start = "This is the backbone and start that the hold-out prefers with 20 labels: resnet_micro"
    assert classes.text[0].startswith(start)
    assert classes.text[0].endswith("2 runs.")
    (matrix,) = classes.matrices
    assert matrix.counts == ((10, 0, 2), (0, 12, 0), (0, 0, 12))
    assert matrix.share(0, 2) == 2 / 12
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in classes.tables[0].rows}
    assert rows["bird"][:2] == ["6", "83.3"]
    assert rows["bird"][-1] == "dog (17 %)"
    assert rows["cat"][1:3] == ["100.0", "61.0 to 100.0"]


def test_without_a_hold_out_no_test_image_chooses_and_all_runs_are_added_up(tmp_path: Path) -> None:
    out, run = write(tmp_path)
    write_runs(out, run)
    classes, _ = page.of_folder(out, results.read(out).table)
    assert classes.text[0] == "All 4 runs with 20 labels are added up here (resnet_micro, vit_micro)."
    assert sum(map(sum, classes.matrices[0].counts)) == 4 * 18


def test_the_images_that_all_runs_get_wrong_come_first_with_their_picture_and_path(tmp_path: Path) -> None:
    out, run = write(tmp_path)
    write_runs(out, run)
    _, wrong = page.of_folder(out, results.read(out).table)
    first, second = wrong.tables[0].rows[:2]
    assert [cell.text for cell in first[1:]] == ["bird", "4", "cat", "2"]
    assert [cell.text for cell in second[1:]] == ["bird", "2", "cat", "2"]
    assert wrong.thumbnails[0].path == first[0].text
    assert len(wrong.thumbnails) == 12
    assert "All 4 runs with 20 labels count alike here (resnet_micro, vit_micro" in wrong.text[0]
    shutil.rmtree(tmp_path / "mine")
    _, wrong = page.of_folder(out, results.read(out).table)
    assert wrong.thumbnails == ()
    assert wrong.text[-1] == "12 images can't be shown, because the files are not where the sweep read them."


def test_the_page_holds_them_folded_and_the_markdown_has_the_counts(tmp_path: Path) -> None:
    out, run = write(tmp_path)
    write_runs(out, run)
    html = report.write(out).read_text(encoding="utf-8")
    assert "<details><summary>Which classes are confused</summary>" in html
    assert 'data-tip="bird, predicted as dog: 2 of 24 (8\u00a0%)"' in html
    assert html.count("data:image/jpeg") == 12
    markdown = report.write(out, format="md").read_text(encoding="utf-8")
    assert "| 1 bird | 10 | 12 | 2 |" in markdown


def test_a_dataset_by_name_has_no_such_sections(tmp_path: Path) -> None:
    from tests.planted import row, table
    from tests.report.own.own_images_on_disk import Run

    run = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=20, samples_seen=640)
    assert page.of_folder(tmp_path, table([row(run, top1=0.5)])) == ()
