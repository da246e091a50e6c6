"""Test which names of folders and files say a split."""

import pytest

from bias_lab.data.own.split_words import among, is_exact, is_fold, split_of, splits_and_folds, splits_in


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", "train TRAIN Training training_set seg_train images_train train-images train2017 trainset trainA"),
        ("train", "train_data Train_Images 01_train imagesTrain ILSVRC2012_train train_224px trainval TrainSet"),
        ("val", "val Valid VALIDATION images_val val2017 validation_set dev valset ILSVRC2012_val Val-Images"),
        ("test", "test Testing test_set seg_test test2017 testset testB evaluation test_images Test_Data images-test"),
    ],
)
def test_public_split_words_in_their_many_forms(split: str, names: str) -> None:
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), split)
    assert splits_and_folds(names.split()) == set(names.split())


@pytest.mark.parametrize(
    "name", ["cat", "steam_train", "test_tube", "trainer", "contest", "freight-train", "device", "latest", "valley", ""]
)
def test_names_that_only_hold_a_split_word_say_none(name: str) -> None:
    assert split_of(name) == ""


def test_two_words_say_no_split() -> None:
    assert split_of("train_test") == ""
    assert splits_in("train_test") == {"train", "test"}


def test_a_files_name_may_say_more() -> None:
    assert splits_in("fashion-mnist_train-00000-of-00001") == {"train"}


def test_folds() -> None:
    assert all(is_fold(name) for name in ("fold1", "Fold_2", "fold-03", "split3", "cv4", "5fold", "fold a"))
    assert not any(is_fold(name) for name in ("fold", "folder", "folder1", "manifold1", "split", "unfolded"))


def test_plain_words_are_exact_in_any_case() -> None:
    assert is_exact("Train")
    assert not is_exact("training_set")


def test_names_that_differ_in_their_split_word_alone_say_splits() -> None:
    assert among(["asl_train", "asl_test", "steam_train"]) == {"asl_train": "train", "asl_test": "test"}
    assert among(["steam_train", "test_tube"]) == {}
    assert splits_and_folds(["fold1", "cat", "cat_train", "cat_val"]) == {"fold1", "cat_train", "cat_val"}


def test_short_names_say_splits_if_there_is_no_other() -> None:
    assert among(["tr", "te"]) == {"tr": "train", "te": "test"}
    assert among(["tr", "te", "de"]) == {}
