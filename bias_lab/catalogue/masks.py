"""Say which settings of a run make no sense for masks, and refuse tasks and datasets that do not fit each other."""

from collections.abc import Mapping
from typing import Any

from bias_lab.catalogue.tasks import TASKS
from bias_lab.errors import UserError

REFUSED: Mapping[str, tuple[Any, str]] = {  # field of `Run` → its neutral value, and why another one is refused
    "mixup": (0, "it mixes the classes of whole images"),
    "cutmix": (0, "it mixes the classes of whole images"),
    "trivial_augment": (False, "it has no rule for masks"),
    "randaugment": (0, "it has no rule for masks"),
    "balanced": (False, "an image with a mask has several classes"),
    "imbalance": (1, "an image with a mask has several classes"),
    "label_noise": (0, "it replaces the class of a whole image"),
    "intervention": ("", "it moves pixels and not their masks"),
}


def check_masks(task: str, dataset: str, has_masks: bool, settings: Mapping[str, Any]) -> None:
    """Raise UserError if a task needs masks and the dataset has none, or the other way round, or for a setting.

    dataset: as the user knows it. settings: of the run, those in `REFUSED`.
    """
    row = TASKS[task]
    if row.pretrains:
        return
    if row.dense is not has_masks:
        what = (
            f"{dataset} has {'masks and no class for an image' if has_masks else 'a class for each image and no masks'}"
        )
        able = [name for name, other in TASKS.items() if other.evaluated_on == "test" and other.dense is has_masks]
        raise UserError(
            f"{what}, so the task '{task}' can't use it", f"tasks that can: {', '.join(able)}" if able else ""
        )
    if row.dense:
        check_settings(settings)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise UserError for settings that images with masks can't have, all of them at once. settings: as above."""
    wrong = {name: REFUSED[name] for name in REFUSED if settings[name] != REFUSED[name][0]}
    if wrong:
        named = ", ".join(f"{name} {settings[name]}" for name in wrong)
        why = "; ".join(dict.fromkeys(why for _, why in wrong.values()))
        neutral = [f"{name}={str(value).lower()}" for name, (value, _) in wrong.items() if value != ""]
        remedies = [f"set {', '.join(neutral)}"] if neutral else []
        remedies += [f"leave {name} out" for name, (value, _) in wrong.items() if value == ""]
        raise UserError(f"{named} can't be used with masks: {why}", remedy=" and ".join(remedies))
