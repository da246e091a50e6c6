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
    """Return one study's heading, headline or banner, answer, and the sections on heads and on parts of test images."""
    found = study_pages.page(folder)
    dataset = str(study_pages.table(folder)["dataset"].iloc[0])
    parts = [f"### {NAMES.get(dataset, dataset)}", f"*{' '.join(found.facts)}*"]
    heads = [" ".join(head.sentences()) for head in found.heads if head.headline]
    parts += heads or [f"> **Not settled.** {study_pages.UNSETTLED}"]
    parts += [sentence for _, sentence, _ in found.answers]
    for section in found.sections:
        if section.name.endswith(("heads", "test-parts")):
            parts += [*section.text[1:], *(pages.markdown(one) for one in section.tables if one.rows)]
    return "\n\n".join(parts)
