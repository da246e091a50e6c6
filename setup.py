"""Ship the top-level folder `experiments/` as the package `bias_lab.experiments`; all else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["bias_lab", "bias_lab.*"]), "bias_lab.experiments"],
    package_dir={"bias_lab.experiments": "experiments"},
)
