"""The IoU of each class, whose oracle is a loop over label maps, and the names of a user's test images."""

from pathlib import Path

import numpy as np
import pandas as pd

from bias_lab import ledger
from bias_lab.data.masks import own
from bias_lab.definition import Run
from bias_lab.report.own import masks
from tests.data.masks.masks_on_disk import flat_folder
from tests.planted import row, table

VOID = 255


def packed(truth: np.ndarray, maps: np.ndarray, K: int) -> bytes:
    """Intersection and union of each image and class, counted pixel by pixel."""
    counts = np.zeros((len(truth), K, 2), "<u4")
    for m, (true, said) in enumerate(zip(truth, maps, strict=True)):
        for t, p in zip(true.ravel(), said.ravel(), strict=True):
            if t == VOID:
                continue
            counts[m, t, 1] += 1
            counts[m, t, 0] += t == p
            counts[m, p, 1] += t != p
    return counts.tobytes()


def study(K: int = 4) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Two runs of two backbones on five images of 6 x 8 pixels. Class 3 is in no mask and no prediction."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, (5, 6, 8))
    truth[0, 0] = VOID
    made, expected = [], {}
    for backbone in ("vit_micro", "resnet_micro"):
        ious = []
        for draw in range(2):
            maps = np.where(random.random(truth.shape) < 0.7, np.where(truth == VOID, 0, truth), 1)
            one = Run(dataset="shape_masks", backbone=backbone, task="segment", size=20, draw=draw, samples_seen=64)
            made.append(row(one, classes=K, scores=packed(truth, maps, K), miou=0.5))
            real = truth != VOID
            ious.append(
                [
                    ((truth == k) & (maps == k) & real).sum() / (((truth == k) | (maps == k)) & real).sum()
                    for k in range(3)
                ]
            )
        expected[backbone] = np.mean(ious, axis=0)
    return table(made), expected


def test_each_class_has_the_mean_iou_of_its_runs_and_the_worst_comes_first(tmp_path: Path) -> None:
    runs, expected = study()
    (section,) = masks.of_folder(tmp_path, runs)
    (found,) = section.tables
    assert [name for name, _ in found.columns] == ["class", "vit_micro, own head", "resnet_micro, own head"]
    shown = {line[0].text: [cell.text for cell in line[1:]] for line in found.rows}
    for k in range(3):
        assert shown[str(k)] == [f"{100 * expected[name][k]:.1f}" for name in ("vit_micro", "resnet_micro")]
    assert shown["3"] == ["–", "–"]
    assert found.note.startswith("–: neither")
    order = [line[0].text for line in found.rows]
    assert order == [*map(str, np.argsort((expected["vit_micro"] + expected["resnet_micro"]) / 2)), "3"]


def test_a_user_s_classes_and_test_images_have_their_names(tmp_path: Path) -> None:
    flat_folder(tmp_path / "mine")
    (tmp_path / "mine" / "classes.txt").write_text("ground\nroad\nsky\n")
    index = own.index(tmp_path / "mine", folder=tmp_path)
    ledger.write_json(tmp_path / ledger.PLACES, {index.identity: index.place})
    kept = pd.read_parquet(index.place["index"])
    names = masks.names(tmp_path, index.identity)
    assert list(names) == kept.loc[kept["split"] == "test", "name"].tolist()
    assert len(names) == 5
    assert masks.names(tmp_path, "shape_masks") == ()
    runs, _ = study(3)
    (section,) = masks.of_folder(tmp_path, runs.assign(dataset=index.identity))
    assert {line[0].text for line in section.tables[0].rows} == {"ground", "road", "sky"}


def test_budgets_of_one_head_are_told_apart_and_classifications_have_no_section(tmp_path: Path) -> None:
    runs, _ = study()
    longer = runs.assign(samples_seen=128)
    (section,) = masks.of_folder(tmp_path, pd.concat([runs, longer], ignore_index=True))
    assert [name for name, _ in section.tables[0].columns][1] == "vit_micro, own head, 64 images seen"
    begun = runs.assign(regime="mae", source="pool")
    (section,) = masks.of_folder(tmp_path, pd.concat([runs, begun], ignore_index=True))
    headings = [name for name, _ in section.tables[0].columns]
    assert "vit_micro, own head, mae, pool" in headings, "another start is another arm"
    assert "vit_micro, own head, scratch" in headings
    plain = table([row(Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100), top1=0.5)])
    assert masks.of_folder(tmp_path, plain) == ()
