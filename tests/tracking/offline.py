"""Reads back what W&B wrote offline: blocks of LevelDB's log format around protobuf records (the SDK has no reader)."""

import json
import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, HEAD = 32 * 1024, 7
FULL, FIRST, LAST = 1, 2, 4


@dataclass
class Offline:
    """One run's file: what it says of itself, its config, summary, history rows, and whether it exited well."""

    id: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None

    @property
    def keys(self) -> set[str]:
        return {key for row in self.history for key in row if not key.startswith("_")}


def records(path: Path) -> list[bytes]:
    """The payloads of a `.wandb` file, fragments joined."""
    data, found, part = path.read_bytes(), [], b""
    at = HEAD  # the file's own header: magic and version
    while at + HEAD <= len(data):
        room = BLOCK - at % BLOCK
        if room < HEAD:
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        payload = data[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if kind in (FULL, FIRST):
            part = b""
        part += payload
        if kind in (FULL, LAST):
            found.append(part)
    return found


def read(path: Path) -> Offline:
    from wandb.proto import wandb_internal_pb2

    run = Offline()
    for payload in records(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            said = record.run
            run.id, run.project, run.group, run.job_type = said.run_id, said.project, said.run_group, said.job_type
            _put(run.config, said.config.update)
        elif kind == "config":
            _put(run.config, record.config.update)
        elif kind == "summary":
            _put(run.summary, record.summary.update)
        elif kind == "history":
            run.history.append({})
            _put(run.history[-1], record.history.item)
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _put(target: dict[str, Any], items: Iterable[Any]) -> None:
    """Add items to a dictionary; a nested key (of a picture or a table) goes into dictionaries of its own."""
    for item in items:
        *path, last = [item.key] if item.key else list(item.nested_key)
        here = target
        for name in path:
            here = here.setdefault(name, {})
        here[last] = json.loads(item.value_json)


def runs(folder: Path) -> dict[str, list[Offline]]:
    """Run id → every offline run of that id in FOLDER/wandb. W&B's own process writes them: it is ended first."""
    import wandb

    wandb.teardown()
    found: dict[str, list[Offline]] = defaultdict(list)
    for path in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb")):
        run = read(path)
        found[run.id].append(run)
    return dict(found)
