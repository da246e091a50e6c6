"""Recognise the names that public datasets give to their splits: `train`, `training_set`, `seg_train`, `images_val`.

A name is taken apart at spaces, punctuation, digits and capitals. It names a split if one of its parts is a split word
and all others are words without a meaning of their own, like `set` or `images`. So `test2017` is a split, and
`steam_train` and `test_tube` are not.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

SPLITS = {  # the word in a folder or table → train, val or test
    "train": "train",
    "training": "train",
    "trainval": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validate": "val",
    "dev": "val",
    "devel": "val",
    "test": "test",
    "testing": "test",
    "evaluation": "test",
    "eval": "test",
}
SHORT = {"tr": "train", "trn": "train", "va": "val", "vl": "val", "te": "test", "ts": "test", "tst": "test"}
EXACT = frozenset("train training val valid validation dev test testing".split())
FILLERS = frozenset(
    "set sets data dataset datasets image images img imgs picture pictures pic pics photo photos seg split splits "
    "folder dir part parts subset sample samples example examples jpg jpeg png cropped crop resized small full mini "
    "tiny large big final new all original orig raw clean cls classification class classes px x v version the my of "
    "for a b c batch batches ilsvrc coco voc imagenet".split()
)
JOINED = re.compile(r"^(train|training|trn|val|valid|validation|test|testing)(set|data|images|imgs|img|split)$")
FOLD = re.compile(
    r"^(k?[-_ ]?folds?|cv|split|crossval|cross[-_ ]?validation)[-_ ]*(\d+|[a-e])$|^\d+[-_ ]?folds?$", re.I
)


def words(name: str) -> list[str]:
    """Return the parts of a name in small letters, without its numbers.

    >>> words("seg_train"), words("TestImages2017"), words("VALIDATION-set"), words("trainset")
    (['seg', 'train'], ['test', 'images'], ['validation', 'set'], ['train', 'set'])
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    parts = [part.casefold() for part in re.split(r"[\W\d_]+", apart) if part]
    split: list[str] = []
    for part in parts:
        joined = JOINED.match(part)
        split += joined.groups() if joined else [part]
    return split


def split_of(name: str) -> str:
    """Return the split that a folder's name says: train, val or test, or an empty text.

    >>> [split_of(name) for name in ("Train", "seg_train", "test2017", "images_val", "steam_train", "trainer")]
    ['train', 'train', 'test', 'val', '', '']
    """
    parts = words(name)
    splits = {SPLITS[part] for part in parts if part in SPLITS}
    rest = [part for part in parts if part not in SPLITS and part not in FILLERS]
    return splits.pop() if len(splits) == 1 and not rest else ""


def among(names: Iterable[str]) -> dict[str, str]:
    """Return name → split of the names in one folder that say a split, alone or beside one another.

    Names that differ in their split word alone say splits too, whatever else they say: `pets_train` and `pets_test`. So
    do short names (`tr`, `te`), if there is no other.

    >>> among(["pets_train", "pets_test", "steam_train", "val"])
    {'val': 'val', 'pets_train': 'train', 'pets_test': 'test'}
    """
    names = list(names)
    if len(names) > 1 and all(name.casefold() in SHORT for name in names):
        return {name: SHORT[name.casefold()] for name in names}
    said = {name: split for name in names if (split := split_of(name))}
    alike: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name in names:
        splits = splits_in(name)
        if name not in said and len(splits) == 1:
            alike[tuple(part for part in words(name) if part not in SPLITS)][name] = splits.pop()
    for group in alike.values():
        if len(set(group.values())) > 1:
            said |= group
    return said


def is_exact(name: str) -> bool:
    """Return whether a name is one of the usual split words and nothing else, in any case."""
    return name.strip().casefold() in EXACT


def splits_in(name: str) -> set[str]:
    """Return all splits that a file's name has a word for, whatever else the name says.

    >>> splits_in("fashion-mnist_train-00000-of-00001"), sorted(splits_in("train_test"))
    ({'train'}, ['test', 'train'])
    """
    return {SPLITS[part] for part in words(name) if part in SPLITS}


def is_fold(name: str) -> bool:
    """Return whether a name is that of a fold of a cross-validation.

    >>> [is_fold(name) for name in ("fold1", "Fold_02", "split-3", "folder", "fold")]
    [True, True, True, False, False]
    """
    return FOLD.match(name.strip()) is not None


def splits_and_folds(names: Iterable[str]) -> set[str]:
    """Return the names in one folder that are those of splits or folds."""
    names = list(names)
    return {*among(names), *(name for name in names if is_fold(name))}
