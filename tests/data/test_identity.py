"""Test golden hashes of images and datasets, and what changes them."""

import numpy as np
import pytest

from bias_lab.data.identity import content_hash, fingerprint

IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def test_golden_hashes() -> None:
    """Published manifests and finished runs hold both hashes."""
    assert content_hash(IMAGE) == "596d643f6ccba082fe665e1c4c1595a3"
    assert fingerprint([("train", "cat", "aa"), ("test", "dog", "bb")]) == "c8338938755cc219"


def test_pixels_and_shape_are_an_image_and_memory_is_not() -> None:
    assert content_hash(IMAGE) != content_hash(IMAGE.reshape(4, 2, 3))
    assert content_hash(IMAGE) != content_hash(IMAGE[::-1])
    assert content_hash(IMAGE) == content_hash(np.asfortranarray(IMAGE))
    changed = IMAGE.copy()
    changed[1, 3, 2] ^= 1
    assert content_hash(IMAGE) != content_hash(changed)


@pytest.mark.parametrize("wrong", [IMAGE[0], IMAGE.astype(np.int64)])
def test_what_is_no_image_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="an image is"):
        content_hash(wrong)


def test_order_is_no_part_of_a_dataset_and_split_class_content_and_count_are() -> None:
    one, two = ("train", "cat", "aa"), ("test", "dog", "bb")
    assert fingerprint([one, two]) == fingerprint([two, one])
    for other in ([one], [one, one, two], [("test", "cat", "aa"), two], [("train", "cow", "aa"), two]):
        assert fingerprint(other) != fingerprint([one, two])
