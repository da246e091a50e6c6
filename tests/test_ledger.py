"""What a folder holds: states, writes that are whole or not there, one sweep at a time."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bias_lab import ledger
from bias_lab.definition import Run, run_id, to_json
from bias_lab.errors import UserError

RUN = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
ID = run_id(RUN)


def test_states_of_a_run(tmp_path: Path) -> None:
    here = ledger.run_folder(tmp_path, ID)
    assert ledger.state(tmp_path, ID) == "missing"
    ledger.write_json(here / ledger.RUN, to_json(RUN))
    assert ledger.state(tmp_path, ID) == "started"
    assert ledger.read_run(tmp_path, ID) == RUN
    ledger.write_json(here / ledger.FAILURE, {"reason": "error"})
    assert ledger.state(tmp_path, ID) == "failed"
    ledger.write_json(here / ledger.FAILURE, {"reason": "diverged"})
    assert ledger.state(tmp_path, ID) == "diverged"
    ledger.write_json(here / ledger.RESULT, {})
    assert ledger.state(tmp_path, ID) == "finished"  # its presence, and nothing else


def test_json_is_one_byte_sequence_for_one_value(tmp_path: Path) -> None:
    ledger.write_json(tmp_path / "a", {"b": 1, "a": [1.5, None]})
    ledger.write_json(tmp_path / "b", {"a": [1.5, None], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.write_json(tmp_path / "c", {"loss": float("nan")})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(UserError, match="x.json is not JSON"):
        ledger.read_json(tmp_path / "x.json")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "x"
    ledger.write_bytes(path, b"old")
    with pytest.raises(OSError, match="No space"), ledger.replacing(path) as temporary:
        temporary.write_bytes(b"ne")
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_write_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch) -> None:
    told: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: told.append("fsync") or fsync(fd))
    monkeypatch.setattr(Path, "replace", lambda self, to: told.append("rename") or replace(self, to))
    ledger.write_bytes(tmp_path / "x", b"data")
    assert told == ["fsync", "rename", "fsync"]


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from bias_lab import ledger
    left = None
    def count(event, arguments):
        global left
        if left is not None and event.startswith(("open", "os.", "tempfile.", "sync", "write")):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    sync = os.fsync
    os.fsync = lambda descriptor: (count("sync", ()), sync(descriptor))
    for step in range(1, 50):
        path = Path(sys.argv[1]) / str(step) / "x"
        path.parent.mkdir()
        path.write_bytes(b"o" * 3000)
        child = os.fork()
        if child == 0:
            left = step
            with ledger.replacing(path) as temporary, temporary.open("wb", buffering=0) as file:
                for part in range(3):
                    file.write(b"n" * 1000)
                    count("write", ())
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
"""


def test_a_kill_at_any_step_of_a_write_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    old, new = b"o" * 3000, b"n" * 3000
    subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], check=True)
    steps = sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name))
    seen = [(folder / "x").read_bytes() for folder in steps]
    turned = seen.index(new)
    assert seen == [old] * turned + [new] * (len(seen) - turned)
    torn = {path.stat().st_size for folder in steps for path in folder.glob(".x.*")}
    assert {0, 1000, 2000, 3000} <= torn  # killed at each of its steps, in the middle of the bytes too
    assert turned < len(seen) - 1  # and between the rename and the end


def test_one_sweep_at_a_time_and_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    code = f"""
        import sys
        from pathlib import Path
        from bias_lab import ledger
        with ledger.claim(Path({str(tmp_path)!r})):
            print("held", flush=True)
            sys.stdin.read()
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(UserError, match=f"another sweep is at work on .*process {holder.pid}"), ledger.claim(tmp_path):
        pass
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    with ledger.claim(tmp_path):
        pass
    with ledger.claim(tmp_path):
        pass


def test_attempts_are_counted_across_kills(tmp_path: Path) -> None:
    ledger.run_folder(tmp_path, ID).mkdir(parents=True)
    assert ledger.attempts(tmp_path, ID) == 0
    assert [ledger.begin_attempt(tmp_path, ID) for _ in range(3)] == [1, 2, 3]
    assert ledger.attempts(tmp_path, ID) == 3


def test_columns_are_those_that_others_rely_on() -> None:
    assert len(ledger.COLUMNS) == len(set(ledger.COLUMNS)) == 41
    assert {"run_id", "top1", "correct", "collapsed", "dataset_fingerprint", "learning_rate"} <= set(ledger.COLUMNS)


def test_code_hash_and_commit_tell_the_code() -> None:
    assert ledger.code_hash() == ledger.code_hash()
    assert len(ledger.code_hash()) == 16
    assert len(ledger.commit()) in (0, 40)


def test_results_are_readable_by_others(tmp_path: Path) -> None:
    ledger.write_json(tmp_path / "r.json", {})
    assert (tmp_path / "r.json").stat().st_mode & 0o044 == 0o044
    assert json.loads((tmp_path / "r.json").read_text()) == {}
