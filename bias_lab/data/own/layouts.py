"""Decide what the folders of a user's dataset mean: splits, classes, or something that must be arranged first."""

import re
from collections.abc import Sequence
from pathlib import Path

from bias_lab.data.own import split_words
from bias_lab.data.own.files import Found, is_image
from bias_lab.data.own.items import few
from bias_lab.errors import UserError, plural

AS_CLASSES = (
    "if these names are classes, put all class folders into one folder called train/, or give a table with the columns "
    "path and label"
)
PICTURES = frozenset(
    "image images img imgs jpegimages picture pictures photo photos original originals rgb raw scan scans input inputs "
    "frame frames".split()
)
MASKS = frozenset(
    "mask masks annotation annotations annot annots label labels gt groundtruth truth trimap trimaps segmentation "
    "segmentations segmentationclass seg segs bbox bboxes depth".split()
)
MASK_WORD = re.compile(r"[-_ ](masks?|gt|seg|segmentation|labels?|trimap|annotation)([-_ ]?\d+)?$")
SAME = 0.5  # share of equal file names from which two folders look like images and their masks


def split_folders(root: Path, folders: Sequence[Path], out: list[str]) -> dict[str, Path]:
    """Return split → folder, empty if no folder is named like a split. out: takes lines for the user.

    A plain split word (`train`) counts before a longer name (`train_images`). Raises UserError if two folders name one
    split, if folds stand there, and if the folders that are named like splits cannot be read as such.
    """
    folds = [folder.name for folder in folders if split_words.is_fold(folder.name)]
    if len(folds) > 1:
        raise _folds(root, folds)
    words = split_words.among(folder.name for folder in folders)
    said = {folder: words.get(folder.name, "") for folder in folders}
    splits: dict[str, Path] = {}
    for exact in (True, False):
        taken = set() if exact else set(splits)
        for folder, split in said.items():
            if not split or split_words.is_exact(folder.name) is not exact or split in taken:
                continue
            if split in splits:
                raise UserError(
                    f"{root} has {splits[split].name}/ and {folder.name}/ for the split '{split}'",
                    remedy=f"keep one of them; {AS_CLASSES}",
                )
            splits[split] = folder
    if splits and "train" not in splits:
        raise UserError(
            f"{root} has {' and '.join(p.name + '/' for p in splits.values())} and no train/",
            remedy=f"put the images to train on into train/, one folder a class; {AS_CLASSES}",
        )
    for split, folder in sorted(splits.items(), key=lambda item: item[0] != "train"):
        if not subfolders(folder):
            loose = any(is_image(p.name) for p in folder.iterdir())
            unlabelled = "" if split == "train" else "move it elsewhere if its images have no labels; "
            raise UserError(
                f"{folder} holds no class folders, and its name is that of a split",
                f"each class needs one folder with its images, as {folder.name}/CLASS/",
                unlabelled + AS_CLASSES if loose else "",
            )
        if folder.name != split and not split_words.is_exact(folder.name):
            out.append(f"{folder.name}/ is read as the split '{split}'")
    return splits


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without hidden ones."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".") and not is_image(p.name))


def inside_split(root: Path, split: str, folder: Path, out: list[str]) -> Path:
    """Return the folder that holds a split's class folders: the split's own, or one of the same split inside it.

    Raises UserError if its folders are named like splits or folds and hold folders themselves.
    """
    inner = subfolders(folder)
    again = len(inner) == 1 and (inner[0].name == folder.name or split_words.split_of(inner[0].name) == split)
    if again and subfolders(inner[0]):
        out.append(f"{inner[0].relative_to(root)}/ is read as the split '{split}'")
        return inside_split(root, split, inner[0], out)
    folds = [each.name for each in inner if split_words.is_fold(each.name)]
    if len(folds) > 1:
        raise _folds(folder, folds)
    words = split_words.among(each.name for each in inner)
    if inner and all(each.name in words and subfolders(each) for each in inner):
        raise UserError(
            f"{folder} holds {few([each.name + '/' for each in inner])}, which are names of splits inside a split",
            remedy="move them beside one another, as train/CLASS and test/CLASS",
        )
    return folder


def _folds(folder: Path, folds: Sequence[str]) -> UserError:
    return UserError(
        f"{folder} holds {few([name + '/' for name in folds])}, which are names of folds and not of classes",
        "put the folds to train on together as train/CLASS, and the one to test on as test/CLASS",
        "or give a table with the columns path, label and split",
    )


# --- classes ---------------------------------------------------------------------------------------------------------


def check_inside_classes(root: Path, found: dict[Path, Found]) -> list[str]:
    """Return a line on subfolders of class folders, whose images count for the class.

    Raises UserError if the subfolders of every class, or all those of one class, are named like splits or folds.
    """
    depths: dict[int, dict[Path, set[str]]] = {}
    for folder, walked in found.items():
        for inner in walked.folders:
            for depth, name in enumerate(Path(inner).parts):
                depths.setdefault(depth, {}).setdefault(folder, set()).add(name)
    for by_class in depths.values():
        splits = {folder: split_words.splits_and_folds(names) for folder, names in by_class.items()}
        every = len(by_class) == len(found) and all(splits.values())
        whole = [folder for folder, names in splits.items() if names == by_class[folder] and len(names) > 1]
        if every or whole:
            folder = whole[0] if whole else next(iter(splits))
            said = sorted(splits[folder])
            above = f"put the split above the class, as {said[0]}/{folder.name}/"
            raise UserError(
                f"the class folder {folder.relative_to(root)} holds {few([name + '/' for name in said])}, which are "
                "names of splits",
                f"give --data {folder}" if len(found) == 1 else above,
                "or give a table with the columns path, label and split",
            )
        for folder, names in by_class.items():
            pictures = [name for name in sorted(names) if name.casefold() in PICTURES]
            if pictures and (masks := [name for name in sorted(names) if _is_mask(name)]):
                raise UserError(
                    f"the class folder {folder.relative_to(root)} holds {pictures[0]}/ and {masks[0]}/, which look "
                    "like images and their masks",
                    remedy=f"move {masks[0]}/ out of the class folder",
                )
    nested = {folder: sorted(walked.folders) for folder, walked in found.items() if walked.folders}
    if not nested:
        return []
    below = sorted({inner for folders in nested.values() for inner in folders})
    where = few([str(folder.relative_to(root)) for folder in nested])
    return [f"images in subfolders count for the class folder above them: {few(below, 5)} (in {where})"]


def check_masks(root: Path, found: dict[Path, Found]) -> list[str]:
    """Return a line on files that look like masks of the images beside them.

    Raises UserError if two class folders look like images and their masks: by their names, and by the file names.
    """
    lines = []
    masks = [folder for folder in found if _is_mask(folder.name)]
    for mask in masks:
        of_mask = _plain_stems(found[mask])
        for folder in (each for each in found if each not in masks):
            of_folder = _plain_stems(found[folder])
            if len(of_mask & of_folder) < SAME * min(len(of_mask), len(of_folder)):
                continue
            pictures = folder.name.casefold() in PICTURES or _is_mask_of(mask.name, folder.name)
            what = (
                f"{folder.relative_to(root)} and {mask.relative_to(root)} hold the same file names, so they look like "
                "images and their masks"
            )
            if pictures:
                raise UserError(
                    what,
                    "each class needs one folder with its images",
                    "for a class of each pixel: bias-lab sweep segmentation, or bias-lab train --task segment; "
                    f"else rename {mask.name}/",
                )
            lines.append(f"{what}; they are read as two classes")
    for folder, walked in found.items():
        if beside := _masks_beside(walked):
            what = f"{plural(len(beside), 'file')} may be masks of the images beside them"
            lines.append(f"{folder.relative_to(root)}: {what}, and are read as images ({Path(beside[0]).name}, …)")
    return lines


def _stem(path: str) -> str:
    """Return a path without the ending, in small letters. A Path for each file would be slow."""
    return path.rpartition(".")[0].casefold()


def _plain_stems(walked: Found) -> set[str]:
    """Return the file names of a folder, without endings and without words for masks."""
    return {_plain(_stem(path).rpartition("/")[2]) for path, _ in walked.images}


def _masks_beside(walked: Found) -> list[str]:
    """Return the files whose name is that of an image beside them, with a word for masks."""
    ends = [(path, stem) for path, _ in walked.images if (stem := _stem(path)) and MASK_WORD.search(stem[-24:])]
    if not ends:
        return []
    there = {_stem(path) for path, _ in walked.images}
    return [path for path, stem in ends if _plain(stem) in there]


def _is_mask(name: str) -> bool:
    parts = split_words.words(name)
    return bool(MASKS & set(parts)) or "".join(parts) in MASKS


def _is_mask_of(mask: str, other: str) -> bool:
    """Return whether a folder's name is another's with a word for masks: cat_masks and cat."""
    return [part for part in split_words.words(mask) if part not in MASKS] == split_words.words(other)


def _plain(stem: str) -> str:
    """Return a file's stem without an ending like _mask."""
    return MASK_WORD.sub("", stem)
