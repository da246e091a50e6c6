"""Write what the page on segmentation says of its study, from the committed tables alone."""

from pathlib import Path

import study_pages

from bias_lab.report import pages

NAMES = {"camvid": "CamVid", "shape_masks": "Drawn shapes"}


def segmentation() -> str:
    """Return what each committed table of the study on masks says: its answer, heads and encoders, test images."""
    folders = [path.parent for path in sorted(study_pages.FOLDER.glob("segmentation*/results.parquet"))]
    if not folders:
        return "*No table of this study is committed yet.*"
    return "\n\n".join(of_masks(folder) for folder in folders)


def of_masks(folder: Path) -> str:
    """Return one study's heading, headline or banner, answer, and its sections.

    Those are the parts of the shortfall, heads, parts of the test images, and the rungs of the settled cells.
    """
    found = study_pages.page(folder)
    dataset = str(study_pages.table(folder)["dataset"].iloc[0])
    parts = [f"### {NAMES.get(dataset, dataset)}", f"*{' '.join(found.facts)}*"]
    heads = [" ".join(head.sentences()) for head in found.heads if head.headline]
    parts += heads or [f"> **Not settled.** {study_pages.UNSETTLED}"]
    parts += [sentence for _, sentence, _ in found.answers]
    parts.append(means(folder))
    for section in found.sections:
        if section.name.endswith(("parts", "heads", "ladders")):
            parts += [*section.text[1:], *(pages.markdown(one) for one in section.tables if one.rows)]
    return "\n\n".join(parts)


def means(folder: Path) -> str:
    """Return the mean test mIoU of every backbone, head and budget, beside one class for all pixels, as a table."""
    rows = study_pages.table(folder).query("task == 'segment'")
    scores = ["miou", "train_miou", "constant_miou"]
    settled = rows["settled"].fillna(False).astype(bool).map({True: "yes", False: "no"})
    by = ["size", "backbone", "head", "samples_seen", "settled"]
    cells = rows.assign(settled=settled).groupby(by)[scores].agg(["mean", "count"])
    lines = [
        (
            pages.whole(size),
            pages.word(backbone),
            pages.word(head or "own"),
            pages.whole(seen),
            pages.word(state),
            *(pages.points(cell[score, "mean"]) for score in scores),
            pages.whole(int(cell["miou", "count"])),
        )
        for (size, backbone, head, seen, state), cell in cells.iterrows()
    ]
    scored = ("test mIoU, %", "training mIoU, %", "one class for all, %")
    names = ("N", "backbone", "head", "images seen", "settled", *scored, "n")
    shown = pages.Table(title="Mean mIoU of every cell", columns=tuple((name, "") for name in names), rows=tuple(lines))
    return pages.markdown(shown)


def overview() -> str:
    """Return the entry of the list of studies: the question with a link, and the answer on each dataset."""
    lines = []
    for folder in (path.parent for path in sorted(study_pages.FOLDER.glob("segmentation*/results.parquet"))):
        found = study_pages.page(folder)
        dataset = str(study_pages.table(folder)["dataset"].iloc[0])
        state = "settled" if any(head.headline for head in found.heads) else "not settled"
        headlines = [head.headline for head in found.heads if head.headline]
        said = " ".join([*headlines, *(sentence for _, sentence, _ in found.answers)])
        lines += [] if lines else [f"### [{found.question}](segmentation.md)"]
        lines.append(f"**{NAMES.get(dataset, dataset)}** ({state}, in points of mIoU). {said}")
    return "\n\n".join(lines)
