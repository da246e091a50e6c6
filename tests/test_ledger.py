"""A sweep's folder: states of runs, atomic writes, claims, and the commit of a run."""

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
ROOT = Path(__file__).parent.parent


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
    assert ledger.state(tmp_path, ID) == "finished"  # whatever else is there


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
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: events.append("fsync") or fsync(fd))
    monkeypatch.setattr(Path, "replace", lambda self, to: events.append("rename") or replace(self, to))
    ledger.write_bytes(tmp_path / "x", b"data")
    assert events == ["fsync", "rename", "fsync"]


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
    assert {0, 1000, 2000, 3000} <= torn  # killed at each step, also within the bytes
    assert turned < len(seen) - 1  # also between the rename and the end


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


def test_status_names_the_holder_without_taking_the_claim(tmp_path: Path) -> None:
    assert ledger.holder(tmp_path) == ""
    with ledger.claim(tmp_path):
        assert ledger.holder(tmp_path) == str(os.getpid())
    assert ledger.holder(tmp_path) == ""


def test_another_kind_of_claim_takes_the_place_of_the_lock(tmp_path: Path) -> None:
    class Lease:
        taken = False

        def __init__(self, path: Path) -> None:
            assert path == tmp_path / ledger.LOCK

        def take(self) -> bool:
            free, Lease.taken = not Lease.taken, True
            return free

        def release(self) -> None:
            Lease.taken = False

        def holder(self) -> str:
            return "another machine"

    with ledger.claim(tmp_path, Lease):
        assert Lease.taken
        with pytest.raises(UserError, match="another machine"), ledger.claim(tmp_path, Lease):
            pass
    assert not Lease.taken


def test_the_ledger_imports_where_fcntl_is_missing() -> None:
    code = "import sys; sys.modules['fcntl'] = None; import bias_lab.ledger, bias_lab.planning.plan"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- attempts --------------------------------------------------------------------------------------------------------

FILES = (ledger.METRICS, ledger.WEIGHTS, ledger.PREDICTIONS, "reconstruction.png")


def compute(attempt: ledger.Attempt, text: str) -> dict[str, str]:
    """Write an attempt's files, each with the attempt's text. Return its result."""
    for name in FILES:
        (attempt.folder / name).write_text(text)
    (attempt.folder / ledger.CHECKPOINT).write_text("checkpoint")
    return {"by": text}


def contents(here: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in here.iterdir() if path.is_file()}


def published(text: str, *, attempts: int) -> dict[str, str]:
    """Return the contents of a finished run's folder."""
    files = dict.fromkeys(FILES, text)
    result, run = (json.dumps(v, indent=1, sort_keys=True) + "\n" for v in ({"by": text}, to_json(RUN)))
    return files | {ledger.RESULT: result, ledger.RUN: run, ledger.ATTEMPTS: "." * attempts}


def test_attempts_are_counted_across_kills(tmp_path: Path) -> None:
    ledger.run_folder(tmp_path, ID).mkdir(parents=True)
    assert ledger.attempts(tmp_path, ID) == 0
    assert [ledger.begin_attempt(tmp_path, ID) for _ in range(3)] == [1, 2, 3]
    assert ledger.attempts(tmp_path, ID) == 3


def test_a_published_attempt_leaves_its_files_and_nothing_else(tmp_path: Path) -> None:
    here = ledger.run_folder(tmp_path, ID)
    with ledger.attempt(tmp_path, RUN) as attempt:
        assert ledger.state(tmp_path, ID) == "started"
        ledger.write_json(here / ledger.FAILURE, {"reason": "error"})  # of an earlier try
        result = compute(attempt, "one")
        assert contents(here).keys() == {ledger.RUN, ledger.ATTEMPTS, ledger.FAILURE}
        attempt.publish(result)
    assert contents(here) == published("one", attempts=1)
    assert not [path for path in here.iterdir() if path.is_dir()]
    assert ledger.finish_publishing(tmp_path, ID)


def test_of_two_attempts_at_once_the_first_to_publish_counts(tmp_path: Path) -> None:
    here = ledger.run_folder(tmp_path, ID)
    with ledger.attempt(tmp_path, RUN) as one, ledger.attempt(tmp_path, RUN) as two:
        assert one.folder != two.folder
        first, second = compute(one, "one"), compute(two, "two")
        two.publish(second)
        one.publish(first)
    assert contents(here) == published("two", attempts=2)
    assert not [path for path in here.iterdir() if path.is_dir()]


def test_an_attempt_that_comes_between_another_s_commit_and_its_end_is_dropped(tmp_path: Path) -> None:
    here = ledger.run_folder(tmp_path, ID)
    with ledger.attempt(tmp_path, RUN) as one, ledger.attempt(tmp_path, RUN) as two:
        first, second = compute(one, "one"), compute(two, "two")
        ledger.write_json(one.folder / ledger.RESULT, first)
        one.folder.rename(here / ledger.COMMITTED)  # and killed
        two.publish(second)
    assert contents(here) == published("one", attempts=2)


def test_an_interrupted_attempt_is_taken_over_with_its_progress_alone(tmp_path: Path) -> None:
    with ledger.attempt(tmp_path, RUN) as dead:
        compute(dead, "one")
    with ledger.attempt(tmp_path, RUN) as next_:
        assert (next_.folder, next_.number) == (dead.folder, 2)
        kept = {path.name for path in next_.folder.iterdir()}
        assert kept == {ledger.METRICS, ledger.CHECKPOINT, ledger.LOCK}


def test_rows_of_metrics_are_found_before_and_after_a_run_is_published(tmp_path: Path) -> None:
    here = ledger.run_folder(tmp_path, ID)
    assert ledger.metrics_file(here) == here / ledger.METRICS
    with ledger.attempt(tmp_path, RUN) as attempt:
        result = compute(attempt, "one")
        assert ledger.metrics_file(here) == attempt.folder / ledger.METRICS
        attempt.publish(result)
    assert ledger.metrics_file(here) == here / ledger.METRICS


def test_the_newest_checkpoint_of_several_interrupted_attempts_is_taken(tmp_path: Path) -> None:
    with ledger.attempt(tmp_path, RUN) as one, ledger.attempt(tmp_path, RUN) as two, ledger.attempt(tmp_path, RUN):
        compute(one, "one")
        compute(two, "two")
        os.utime(two.folder / ledger.CHECKPOINT, (2**31, 2**31))
    with ledger.attempt(tmp_path, RUN) as next_:
        assert next_.folder == two.folder
        next_.publish(compute(next_, "four"))
    assert contents(ledger.run_folder(tmp_path, ID)) == published("four", attempts=4)
    assert not list(ledger.run_folder(tmp_path, ID).glob(f"{ledger.ATTEMPT}*"))


def test_a_run_that_an_older_version_began_goes_on(tmp_path: Path) -> None:
    here = ledger.run_folder(tmp_path, ID)
    here.mkdir(parents=True)
    for name in (ledger.METRICS, ledger.CHECKPOINT, ledger.PREVIOUS):
        (here / name).write_text(f"old {name}")
    with ledger.attempt(tmp_path, RUN) as attempt:
        assert (attempt.folder / ledger.CHECKPOINT).read_text() == f"old {ledger.CHECKPOINT}"
        assert (attempt.folder / ledger.METRICS).read_text() == f"old {ledger.METRICS}"
        attempt.publish(compute(attempt, "new"))
    assert contents(here) == published("new", attempts=1)


PUBLISHED = """
    import json, os, signal, sys
    from pathlib import Path
    from bias_lab import ledger
    from bias_lab.definition import from_json
    left = None
    def count(event, arguments):
        global left
        if left is not None and event.startswith(("open", "os.", "shutil", "tempfile.")):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    run, names = from_json(json.loads(sys.argv[2])), json.loads(sys.argv[3])
    for step in range(1, 200):
        folder = Path(sys.argv[1]) / str(step)
        child = os.fork()
        if child == 0:
            with ledger.attempt(folder, run) as attempt:
                for name in (*names, ledger.CHECKPOINT):
                    (attempt.folder / name).write_text("one")
                left = step
                attempt.publish({"by": "one"})
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
"""


def test_a_kill_at_any_step_of_publishing_is_completed_by_the_next_attempt(tmp_path: Path) -> None:
    arguments = [str(tmp_path), json.dumps(to_json(RUN)), json.dumps(FILES)]
    subprocess.run([sys.executable, "-c", textwrap.dedent(PUBLISHED), *arguments], check=True)
    steps = sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name))
    assert len(steps) > 20
    seen = []
    for folder in steps:
        here = ledger.run_folder(folder, ID)
        seen.append((ledger.state(folder, ID), (here / ledger.COMMITTED).is_dir()))
        if seen[-1][0] == "finished":  # at that moment all files are in place
            assert {name: contents(here)[name] for name in FILES} == dict.fromkeys(FILES, "one")
        attempts = 1
        if not ledger.finish_publishing(folder, ID):
            with ledger.attempt(folder, RUN) as attempt:
                assert (attempt.folder / ledger.CHECKPOINT).is_file()
                attempt.publish(compute(attempt, "one"))
            attempts = 2
        assert contents(here) == published("one", attempts=attempts)
        assert not [path for path in here.iterdir() if path.is_dir()]
    assert {("started", False), ("started", True), ("finished", True), ("finished", False)} == set(seen)


def test_code_hash_names_the_code() -> None:
    assert ledger.code_hash() == ledger.code_hash()
    assert len(ledger.code_hash()) == 16


def test_commit_is_git_s_and_empty_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    ledger.commit.cache_clear()
    assert ledger.commit() == (head.stdout.strip() if (ROOT / ".git").exists() else "")
    monkeypatch.setenv("PATH", "")
    assert ledger.commit() == (head.stdout.strip() if (ROOT / ".git").exists() else "")  # asked for once
    ledger.commit.cache_clear()
    assert ledger.commit() == ""
    ledger.commit.cache_clear()


def test_results_are_readable_by_others(tmp_path: Path) -> None:
    ledger.write_json(tmp_path / "r.json", {})
    assert (tmp_path / "r.json").stat().st_mode & 0o044 == 0o044
    assert json.loads((tmp_path / "r.json").read_text()) == {}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"])
def test_json_that_python_cannot_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.json").write_bytes(content)
    with pytest.raises(UserError, match=r"odd\.json is not JSON"):
        ledger.read_json(tmp_path / "odd.json")
