"""A snapshot of all words and flags. A change here is a change for every user."""

import pytest

from bias_lab.cli import flags, main
from bias_lab.errors import UserError

SNAPSHOT = """
backbones WORD
bench WHAT --out --quick
datasets check NAME --data-root --label-column --path-column --skip-bad-images
experiments
report FOLDER PART --format --out
runs FOLDER WORD
show RUN --out
status FOLDER
subset DATASET --balanced --blocks --data-root --draw --out --sizes --skip-bad-images
sweep EXPERIMENT --allow-overlap --allow-partial-weights --backbone --data --data-root --device --draws --dry-run --engine --family --image-size --label-column --list --manifest --mean --method --no-tune --no-wandb --out --path-column --profile --recipe --redo-changed --retry-failed --seeds --set --sizes --skip-bad-images --std --tune --wandb --weights --workers
train --allow-overlap --allow-partial-weights --backbone --data --data-root --dataset --device --draw --engine --image-size --label-column --like --manifest --mean --method --no-tune --no-wandb --out --path-column --pretraining --prior --protocol --recipe --redo-changed --regime --retry-failed --seed --set --settle --size --skip-bad-images --source --std --task --tune --wandb --weights --workers
tuned FOLDER --out
wandb-dashboard FOLDER --dry-run --entity --project --wandb
wandb-sync FOLDER --artifacts --entity --offline --project --wandb
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
