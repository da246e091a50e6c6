"""A snapshot of all words and flags. A change here is a change for every user."""

from bias_lab.cli import flags, main

SNAPSHOT = """
backbones WORD
bench WHAT --out --quick
datasets check NAME --data-root
experiments
report FOLDER --format
show RUN --out
status FOLDER
subset DATASET --balanced --blocks --data-root --draw --out --sizes --skip-bad-images
sweep EXPERIMENT --allow-overlap --backbone --data --data-root --device --draws --dry-run --engine --family --image-size --manifest --no-tune --no-wandb --out --profile --recipe --redo-changed --retry-failed --seeds --set --sizes --skip-bad-images --tune --workers
train --allow-overlap --backbone --data --data-root --dataset --device --draw --engine --image-size --like --manifest --no-tune --no-wandb --out --pretraining --prior --protocol --recipe --redo-changed --regime --retry-failed --seed --set --settle --size --skip-bad-images --source --task --tune --weights --workers
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


def test_every_command_says_what_it_does_in_one_line() -> None:
    for name, (run, _) in main.COMMANDS.items():
        first = (run.__doc__ or "").splitlines()[0]
        assert first.endswith("."), name
        assert len(first) < 100, name


def test_every_flag_has_a_help_text() -> None:
    parser, _ = flags.build(main.COMMANDS)
    (commands,) = (action for action in parser._actions if action.dest == "command")
    for name, sub in (commands.choices or {}).items():
        assert isinstance(sub, flags.Parser)
        assert [action.dest for action in sub._actions if not action.help] == [], name
