"""The files that take longest come first, so that two workers that share out files end together."""

import pytest

LONGEST = ("test_main_job.py", "test_notebooks.py", "test_build.py", "test_readme.py", "test_cli.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))
