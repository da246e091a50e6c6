"""List every engine by name. An engine carries out the runs of a sweep."""

from dataclasses import dataclass

from bias_lab.errors import unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Describe one engine.

    module: `module:class` of an implementation of `bias_lab.execution.engine.Engine`.
    words: where it carries out runs, for people.
    """

    name: str
    module: str
    words: str


ENGINES = {
    row.name: row
    for row in (
        Engine(name="local", module="bias_lab.execution.local:Local", words="worker processes on this machine"),
    )
}


def engine(name: str) -> Engine:
    """Return the row of an engine. Raise UserError with the nearest match if no engine has this name."""
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    return ENGINES[name]
