"""The names that `import bias_lab as bl` offers: lazy, and those that are promised."""

import subprocess
import sys

import pytest

import bias_lab as bl


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys, bias_lab\nprint([m for m in sys.modules if m.startswith('bias_lab.') or m in ('torch', 'pandas')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", bl.__all__)
def test_every_name_is_there_and_listed(name: str) -> None:
    assert callable(getattr(bl, name))
    assert name in dir(bl)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = bl.lode
