"""Test the table of datasets."""

import pytest

from bias_lab.catalogue import (
    DATASETS,
    dataset,
)
from bias_lab.errors import UserError


def test_datasets_by_name() -> None:
    row = dataset("fashion_mnist_12k")
    assert (row.pool, row.test_images, row.classes, row.channels) == (10_000, 2_000, 10, 1)
    with pytest.raises(UserError, match="did you mean 'fashion_mnist_12k'"):
        dataset("fashion_mnist12k")
    for name, row in DATASETS.items():
        assert row.name == name
        assert len(row.class_counts) in (0, row.classes), name
        assert row.licence, name
        assert row.citation, name
