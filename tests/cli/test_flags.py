"""A snapshot of all words and flags. A change here is a change for every user."""

import argparse

import pytest

from bias_lab.cli import flags, main
from bias_lab.errors import UserError

SNAPSHOT = """
backbones WORD
bench WHAT --out --quick
datasets check NAME --data-root
experiments
report FOLDER --format
show RUN --out
status FOLDER
subset DATASET --balanced --blocks --data-root --draw --out --sizes --skip-bad-images
sweep EXPERIMENT --allow-overlap --allow-partial-weights --backbone --data --data-root --device --draws --dry-run --engine --family --image-size --manifest --mean --method --no-tune --no-wandb --out --profile --recipe --redo-changed --retry-failed --seeds --set --sizes --skip-bad-images --std --tune --workers
train --allow-overlap --allow-partial-weights --backbone --data --data-root --dataset --device --draw --engine --image-size --like --manifest --mean --method --no-tune --no-wandb --out --pretraining --prior --protocol --recipe --redo-changed --regime --retry-failed --seed --set --settle --size --skip-bad-images --source --std --task --tune --weights --workers
tuned FOLDER --out
wandb-dashboard FOLDER --dry-run --entity --project
wandb-sync FOLDER --artifacts --entity --offline --project
"""  # noqa: E501


def described() -> str:
    """Return each command with its words and flags, one line each."""
    parser, _ = flags.build(main.COMMANDS)
    (commands,) = (action for action in parser._actions if action.dest == "command")
    lines = []
    for name, sub in sorted((commands.choices or {}).items()):
        assert isinstance(sub, flags.Parser)
        words = [action.metavar or action.dest for action in sub._actions if not action.option_strings]
        options = [option for action in sub._actions for option in action.option_strings if option.startswith("--")]
        lines.append(" ".join([name, *map(str, words), *sorted(option for option in options if option != "--help")]))
    return "\n".join(lines)


def test_the_command_line_is_as_published() -> None:
    assert described() == SNAPSHOT.strip()


def test_channel_values_are_read_as_a_run_holds_them() -> None:
    assert flags.channels("0.50, .25,1") == "0.5,0.25,1"
    assert flags.channels("0.5") == "0.5"
    for wrong in ("0.5,0.5", "red", "1.5,0.5,0.5", "nan,0.5,0.5", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a value from 0 to 1 for each channel"):
            flags.channels(wrong)


def test_every_command_says_what_it_does_in_one_line() -> None:
    for name, command in main.COMMANDS.items():
        assert command.name == name
        assert command.about[0].islower(), name
        assert not command.about.endswith("."), name
        assert len(command.about) < 100, name


@pytest.mark.parametrize("text", ["²", "１２", "١٢", "1e3", "", " ", "9" * 16, "0x10", "1.0", "_1"])
def test_a_number_is_written_with_the_digits_0_to_9(text: str) -> None:
    for words in (["train", "--size", text], ["train", "--seed", text], ["sweep", "x", "--sizes", text]):
        with pytest.raises(UserError, match="whole number"):
            flags.parse(words, main.COMMANDS)
    assert flags.parse(["train", "--size", "1_000"], main.COMMANDS).size == 1000
    assert flags.parse(["sweep", "x", "--sizes", "100, 30"], main.COMMANDS).sizes == (100, 30)


def test_every_flag_has_a_help_text() -> None:
    parser, _ = flags.build(main.COMMANDS)
    (commands,) = (action for action in parser._actions if action.dest == "command")
    for name, sub in (commands.choices or {}).items():
        assert isinstance(sub, flags.Parser)
        assert [action.dest for action in sub._actions if not action.help] == [], name
