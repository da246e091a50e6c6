"""Find a run in a sweep's folder, by its id, the beginning of it or words of its label, and read its definition."""

import contextlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TypeVar

from bias_lab import ledger, schema
from bias_lab.definition import Run, from_json
from bias_lab.errors import UserError, unknown

Key = TypeVar("Key", bound=Hashable)

FEW = 6  # runs that a message names


def find(name: str, folder: Path | None, results: Path = Path("results")) -> tuple[Path, str]:
    """Return the sweep's folder and the full id of a run.

    name: its id, the beginning of it, its folder's path, or words of its label that no other run has. A label that is
    given as a whole is that of its run, whatever others contain it. Without a folder, search all sweeps in `results`.
    Raises UserError if no run or several runs match.
    """
    path = Path(name)
    for place in (path, folder / path) if folder else (path,):
        if place.parent.name == "runs" and place.is_dir():
            return place.parent.parent, place.name
    folders = [folder] if folder else sorted(runs.parent for runs in results.glob("*/runs"))
    matches = [(at, run.name) for at in folders for run in sorted((at / "runs").glob(f"{name}*")) if run.is_dir()]
    matches = [match for match in matches if match[1] == name] or matches
    if len(matches) == 1:
        return matches[0]
    where = str(folder) if folder else f"{results}/*/"
    if matches:
        ids = ", ".join(run for _, run in matches[:FEW])
        raise UserError(f"{len(matches)} runs in {where} begin with '{name}'", ids, "give more of the id")
    labelled = {(at, run_id_): words for at in folders for run_id_, words in _labels(at)}
    whole = [place for place, words in labelled.items() if words.casefold().split() == name.casefold().split()]
    described = [(*place, labelled[place]) for place in whole or matching(labelled, name)]
    if len(described) == 1:
        return described[0][:2]
    if described:
        shown = ", ".join(f"{one} ({words})" for _, one, words in described[:FEW])
        more = ", …" if len(described) > FEW else ""
        raise UserError(f"{len(described)} runs in {where} fit '{name}'", shown + more, "give more words, or an id")
    names = [run.name for at in folders for run in (at / "runs").glob("*")]
    if names:
        raise unknown("run", name, names)
    raise UserError(f"no run '{name}' in {where}", remedy="--out FOLDER")


def matching(labels: Mapping[Key, str], description: str) -> list[Key]:
    """Return the keys of the labels that have all words of a description, in any order.

    A number belongs to the word before it. Where no label has all words as they are written, the beginning of a name is
    enough, such as `vit` for vit_micro.

    >>> labels = {1: "vit_micro scratch N=100 draw 1 seed 0", 2: "mobilevit_micro scratch N=100 draw 0 seed 0"}
    >>> [matching(labels, words) for words in ("seed 0 vit_micro", "draw 0", "n=100", "vit")]
    [[1], [2], [1, 2], [1]]
    """
    wanted = _parts(description.casefold().split())
    words = {key: label.casefold().split() for key, label in labels.items()}
    exact = [key for key, label in words.items() if all(_has(label, part, ("",)) for part in wanted)]
    return exact or [key for key, label in words.items() if all(_has(label, part, ("", "_", "+")) for part in wanted)]


def _parts(words: list[str]) -> list[list[str]]:
    """Return words in groups: a number stays with the word before it."""
    parts: list[list[str]] = []
    for word in words:
        if word.replace(".", "").isdigit() and parts:
            parts[-1].append(word)
        else:
            parts.append([word])
    return parts


def _has(label: list[str], part: list[str], ends: tuple[str, ...]) -> bool:
    """Return whether a label has these words in a row, each whole or ended by one of the given characters."""

    def same(word: str, asked: str) -> bool:
        return any(word == asked if not end else word.startswith(asked + end) for end in ends)

    rows = (label[k : k + len(part)] for k in range(len(label) - len(part) + 1))
    return any(all(same(word, asked) for word, asked in zip(row, part, strict=True)) for row in rows)


def _labels(folder: Path) -> list[tuple[str, str]]:
    """Return (run_id, words) of each run of a folder, planned or begun."""
    path = folder / ledger.EXPERIMENT
    planned = ledger.read_json(path)["runs"] if path.is_file() else []
    runs = {entry["run_id"]: from_json(entry["run"]) for entry in planned}
    begun = [one.parent.name for one in folder.glob(f"runs/*/{ledger.RUN}")]
    for name in begun:
        with contextlib.suppress(UserError):  # a damaged definition describes no run
            runs.setdefault(name, ledger.read_run(folder, name))
    words = schema.labels(runs.values())
    return [(name, words.get(name, schema.label(run))) for name, run in runs.items()]


def definition(folder: Path, name: str) -> Run:
    """Return a run's definition, from its folder or, before it has begun, from the plan.

    Raises UserError if neither has it.
    """
    if (ledger.run_folder(folder, name) / ledger.RUN).is_file():
        return ledger.read_run(folder, name)
    path = folder / ledger.EXPERIMENT
    for entry in ledger.read_json(path)["runs"] if path.is_file() else ():
        if entry["run_id"] == name:
            return from_json(entry["run"])
    raise UserError(f"{folder} has no definition of run {name}", remedy="bias-lab status FOLDER lists the planned runs")
