"""Damaged and renamed inputs of every reader end in a right answer or in one line with exit code 2, within 10 s.

A corpus of sound files is damaged with a fixed seed: random bytes, cuts, repeats, other files' bytes, and other names.
"""

import datetime
import decimal
import io
import json
import pickle
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bias_lab.cli import main
from bias_lab.data.readers import manifests
from bias_lab.data.readers.decoding import Reference, inspect
from bias_lab.data.readers.listing import listing
from bias_lab.errors import UserError
from bias_lab.planning import experiment_files, learning_rates, own
from bias_lab.training.weights import files
from tests.data.pictures_on_disk import encoded, picture

SLOWEST = 10.0  # seconds that one input may take
INPUTS = {"image": 400, "table": 200, "manifest": 100, "checkpoint": 150, "experiment": 75, "tuned": 75}  # 1,000 in all
EXPERIMENT = """\"\"\"Is it sound?\"\"\"

from bias_lab.definition import Experiment, Run, grid

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, samples_seen=640)


def experiment(profile: str) -> Experiment:
    return Experiment(question="Is it sound?", runs=grid(ONE, seed=(0, 1)))
"""
TUNED = {
    "command": "none",
    "replicates": [[1000, 1000]],
    "rows": [
        {"dataset": "fashion_mnist_12k", "backbone": "vit_micro", "recipe": "plain", "regime": "scratch", "size": 100}
        | {"intervention": "", "learning_rate": 1e-3, "trials": [{"learning_rate": 1e-3, "top1": 0.5}]}
    ],
}


# --- the corpus ------------------------------------------------------------------------------------------------------


def images() -> dict[str, bytes]:
    """Return a file of each format and of many modes, by its ending."""
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = picture(2, mode="L")
    colour = picture(1, side=20)
    return {
        "a.png": encoded(colour, exif=exif, icc_profile=b"x" * 40),
        "b.png": encoded(grey, transparency=7),
        "c.png": encoded(picture(3, mode="RGBA")),
        "d.png": encoded(picture(4).convert("P"), transparency=bytes(range(20))),
        "e.png": encoded(Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 99)),
        "f.jpg": encoded(colour, "JPEG", exif=exif, comment=b"a comment"),
        "g.jpg": encoded(picture(6, mode="CMYK", side=16), "JPEG", progressive=True),
        "h.gif": encoded(picture(7).convert("P"), "GIF", save_all=True, append_images=[picture(8).convert("P")]),
        "i.webp": encoded(colour, "WEBP", lossless=True, exif=exif),
        "j.tiff": encoded(colour, "TIFF", compression="tiff_lzw"),
        "k.tif": encoded(Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)), "TIFF"),
        "l.bmp": encoded(colour, "BMP"),
        "m.ppm": encoded(colour, "PPM"),
    }


def write_corpus(root: Path) -> dict[str, list[Path]]:
    """Write sound files of each kind and return kind → files."""
    root.mkdir()
    for name, data in images().items():
        (root / name).write_bytes(data)
    files = {"image": sorted(root.iterdir())}
    rows = [(f"{number}.png", f"class {number % 2}") for number in range(8)]
    for number, (name, _) in enumerate(rows):
        (root / name).write_bytes(encoded(picture(number)))
    lines = [f"{path},{label}" for path, label in rows]
    (root / "t.csv").write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    (root / "u.csv").write_text(
        "\n".join(["path,label,split", *(f'"{line}",train' for line in lines)]), encoding="utf-8"
    )
    (root / "v.tsv").write_text("\n".join(line.replace(",", "\t") for line in ["path,label", *lines]), encoding="utf-8")
    packed = [{"bytes": encoded(picture(number)), "path": name} for number, (name, _) in enumerate(rows)]
    about = {"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": packed, "label": [number % 2 for number in range(8)]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(about)}), root / "w.parquet")
    pq.write_table(
        pa.table({"path": [name for name, _ in rows], "label": [label for _, label in rows]}), root / "x.parquet"
    )
    files["table"] = [root / name for name in ("t.csv", "u.csv", "v.tsv", "w.parquet", "x.parquet")]
    manifests.write(root / "m.parquet", POOL, (), 0)
    (root / "m.txt").write_text("".join(f"{name} {label}\n" for name, label in rows), encoding="utf-8")
    files["manifest"] = [root / "m.parquet", root / "m.txt"]
    tensors = {"norm.weight": torch.ones(4), "blocks.0.attn.qkv.weight": torch.ones(12, 4)}
    torch.save({"model": tensors, "epoch": 3}, root / "n.pth")
    torch.save(tensors, root / "o.pt", _use_new_zipfile_serialization=False)
    save_file(tensors, root / "p.safetensors", metadata={"timm_model": "vit_tiny_patch16_224"})
    files["checkpoint"] = [root / name for name in ("n.pth", "o.pt", "p.safetensors")]
    (root / "q.py").write_text(EXPERIMENT, encoding="utf-8")
    (root / "tuned.json").write_text(json.dumps(TUNED, indent=1), encoding="utf-8")
    return files | {"experiment": [root / "q.py"], "tuned": [root / "tuned.json"]}


POOL = manifests.Pool(
    dataset="folder:0123456789abcdef",
    fingerprint="0123456789abcdef",
    classes=("class 0", "class 1"),
    labels=np.arange(8) % 2,
    hashes=[f"{number:032x}" for number in range(8)],
    names=[f"{number}.png" for number in range(8)],
)


TOKENS = (
    b"",
    b"null",
    b"-1",
    b"0",
    b"1e400",
    b"NaN",
    b"[]",
    b"{}",
    b'"x"',
    b"true",
    b"9" * 25,
    "²１٣".encode(),
    b"'",
    b'"',
)


def edited(text: bytes, draw: random.Random) -> bytes:
    """Return a text after a small change: a line left out, repeated or moved, or one word in place of another."""
    lines = text.splitlines(keepends=True)
    at = draw.randrange(len(lines))
    match draw.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(draw.randrange(len(lines)), lines[at])
        case _:
            words = list(re.finditer(rb'"?[\w.]+"?', lines[at]))
            if words:
                word = draw.choice(words)
                lines[at] = (
                    lines[at][: word.start()] + draw.choice((*TOKENS, "²１٣".encode())) + lines[at][word.end() :]
                )
    return b"".join(lines)


def damaged(data: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Return a file's bytes after a small change if they are a text, or after one to three random kinds of damage."""
    if b"\0" not in data and data.isascii() and draw.random() < 0.6:
        return edited(data, draw)
    made = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(made) + 1)
        match draw.randrange(8):
            case 0:
                del made[at:]
            case 1:
                del made[at : at + draw.randint(1, 40)]
            case 2:
                made[at : at + 8] = draw.randbytes(draw.randint(1, 8))
            case 3:
                made[at:at] = draw.randbytes(draw.randint(1, 60))
            case 4 | 7:
                for place in draw.choices(range(len(made)), k=8) if made else ():
                    made[place] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
            case 5:
                made[at:at] = made[: draw.randint(1, 200)]
            case 6:
                made[at:] = draw.choice(others)[at:]
    return bytes(made)


COLUMNS: tuple[pa.Array, ...] = (
    pa.array([["a"], ["b"]] * 4),
    pa.array([{"x": 1}] * 8),
    pa.array([1.5, float("nan")] * 4),
    pa.array([None, 1] * 4),
    pa.array([None] * 8),
    pa.array([b"\xff", b"a"] * 4),
    pa.array([datetime.date(2020, 1, 1)] * 8),
    pa.array([decimal.Decimal("1.5")] * 8),
    pa.array([True, False] * 4),
    pa.array(["a", ""] * 4),
    pa.array(["x\0y", "é\n"] * 4),
    pa.array(["a", "b"] * 4).dictionary_encode(),
    pa.array([2**63, 1] * 4, pa.uint64()),
    pa.array([-1, 0] * 4, pa.int8()),
    pa.array([0.0, 1.0] * 4, pa.float16()),
    pa.array([{"bytes": b"x", "path": None}] * 8),
    pa.array([{"bytes": None, "path": "0.png"}] * 8),
    pa.array([{"bytes": "text"}] * 8),
)


def other_columns(path: Path, draw: random.Random) -> bytes:
    """Return a parquet file with a column of another type, another metadata, or a column less."""
    table = pq.read_table(path)
    place = draw.randrange(table.num_columns)
    about = draw.choice((table.schema.metadata, {"huggingface": "{"}, {"huggingface": "[]"}, {"bias_lab": "\xff"}, {}))
    table = table.replace_schema_metadata(about)
    name = table.column_names[place]
    made = table.drop_columns([name]) if draw.random() < 0.1 else table.set_column(place, name, draw.choice(COLUMNS))
    sink = io.BytesIO()
    pq.write_table(made, sink)
    return sink.getvalue()


OBJECTS: tuple[object, ...] = (
    {},
    [],
    None,
    3,
    "text",
    torch.ones(3),
    [torch.ones(3)],
    {"a": 1, "b": "c"},
    {1: torch.ones(2), None: torch.ones(2)},
    {"state_dict": {}},
    {"model": {"model": {"norm.weight": torch.ones(4)}}},
    {"norm.weight": torch.ones(4, dtype=torch.complex64)},
    {"norm.weight": torch.ones(4).to_sparse()},
    {"norm.weight": torch.ones(4, dtype=torch.int64), "x": torch.tensor(float("nan"))},
    {"norm.weight": torch.ones(0)},
    {"norm.weight": torch.ones(2, device="meta")},
    {"student": {"a.b": torch.ones(2)}, "teacher": {"a.b": torch.zeros(2)}},
)


def other_content(draw: random.Random) -> bytes:
    """Return a file of torch that holds something else than one set of weights."""
    sink = io.BytesIO()
    torch.save(draw.choice(OBJECTS), sink)
    return sink.getvalue()


def changed(source: Path, others: list[bytes], draw: random.Random) -> bytes:
    """Return a file's bytes after damage, or sound bytes of an odd content."""
    if source.suffix == ".parquet" and draw.random() < 0.5:
        return other_columns(source, draw)
    if source.suffix == ".pth" and draw.random() < 0.5:
        return other_content(draw)
    return damaged(source.read_bytes(), others, draw)


def renamed(name: str, names: list[str], draw: random.Random) -> str:
    """Return the name, or in one case of five a name with another ending or with odd letters."""
    stem, _, ending = name.rpartition(".")
    odd = (
        f"{stem}.{draw.choice(names).rpartition('.')[2]}",
        f"{stem}\n.{ending}",
        f"é²{stem}.{ending}",
        f"{stem}",
        name,
    )
    return draw.choice(odd) if draw.random() < 0.2 else name


# --- the readers -----------------------------------------------------------------------------------------------------


def read_image(path: Path) -> None:
    seen = inspect(Reference(str(path)))
    if seen.problem:
        raise UserError(seen.problem)
    assert 0 < seen.width * seen.height < 10**8
    assert len(seen.hash) == 32


def read_table(path: Path) -> None:
    listed = listing(path)
    assert listed.items
    assert {item.label for item in listed.items} <= set(listed.classes)


def read_manifest(path: Path) -> None:
    used = manifests.use(path, POOL, folder=path.parent / "out")
    order = np.load(used.place["ranking"])
    assert len(set(order.tolist())) == len(order) == used.length > 0


def read_checkpoint(path: Path) -> None:
    identity, place = own.weights(str(path))
    if place:
        assert identity.startswith("file:")
        tensors = files.read(path)
        assert tensors


def read_experiment(path: Path) -> None:
    assert experiment_files.read(path, "laptop").runs


def read_tuned(path: Path) -> None:
    rates = learning_rates.read(path)
    from bias_lab.definition import Run

    run = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
    row = rates.row(run)
    assert row is None or row["learning_rate"] > 0
    assert all(rate > 0 for rate in rates.grid())
    assert rates.sizes(run) == sorted(rates.sizes(run))
    assert rates.tried("vit_micro") is None or min(rates.tried("vit_micro") or ()) > 0


READERS: dict[str, Callable[[Path], None]] = {
    "image": read_image,
    "table": read_table,
    "manifest": read_manifest,
    "checkpoint": read_checkpoint,
    "experiment": read_experiment,
    "tuned": read_tuned,
}


def outcomes(kind: str, count: int, files: list[Path], everything: list[bytes], folder: Path) -> Counter[str]:
    """Read damaged files of one kind and count how they ended. Anything but an answer or a UserError fails."""
    draw = random.Random(kind)
    ended: Counter[str] = Counter()
    names = [file.name for file in files]
    for number in range(count):
        source = draw.choice(files)
        data = changed(source, everything, draw)
        path = folder / renamed(source.name, names, draw)
        path.write_bytes(data)
        begun = time.monotonic()
        try:
            READERS[kind](path)
            ended["accepted"] += 1
        except UserError as error:
            ended["refused" if str(error).isprintable() else "in several lines"] += 1
        except Exception as error:
            kept = folder.parent / f"kept-{kind}-{number}{path.suffix}"
            kept.write_bytes(data)
            raise AssertionError(f"{kind} {number} of {source.name}: {type(error).__name__}; see {kept}") from error
        assert time.monotonic() - begun < SLOWEST, (kind, number, source.name)
        path.unlink(missing_ok=True)
    return ended


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    return write_corpus(tmp_path_factory.mktemp("fuzz") / "corpus")


@pytest.mark.parametrize("kind", READERS)
def test_every_reader_takes_the_sound_files(kind: str, corpus: dict[str, list[Path]]) -> None:
    for file in corpus[kind]:
        READERS[kind](file)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what Python says of odd escapes in a damaged experiment file
@pytest.mark.parametrize("kind", READERS)
def test_damaged_inputs_are_answered_or_refused(
    kind: str, corpus: dict[str, list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    everything = [file.read_bytes() for files in corpus.values() for file in files]
    folder = corpus[kind][0].parent.parent / kind
    shutil.copytree(corpus[kind][0].parent, folder)
    ended = outcomes(kind, INPUTS[kind], corpus[kind], everything, folder)
    with capsys.disabled():
        print(f"\nfuzz: {kind}: {ended['accepted']} accepted, {ended['refused']} refused")
    assert ended.keys() <= {"accepted", "refused"}
    assert sum(ended.values()) == INPUTS[kind]
    assert ended["refused"] > INPUTS[kind] / 10


@pytest.mark.slow
def test_damaged_inputs_at_the_command_line(
    corpus: dict[str, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    everything = [file.read_bytes() for files in corpus.values() for file in files]
    draw = random.Random(0)
    train = ["train", "--backbone", "vit_micro", "--size", "100", "--set", "learning_rate=0.001", "--set", "seed=-1"]
    commands = {  # a negative seed ends the command after its files were read
        "table": lambda file: ["datasets", "check", file],
        "manifest": lambda file: [*train, "--manifest", file],
        "checkpoint": lambda file: [*train, "--weights", file],
        "experiment": lambda file: ["sweep", file, "--dry-run", "--no-tune"],
    }
    for kind, words in commands.items():
        for _ in range(8):
            source = draw.choice(corpus[kind])
            file = tmp_path / source.name
            file.write_bytes(changed(source, everything, draw))
            code = main.main(words(str(file)))
            err = capsys.readouterr().err
            assert code in (0, 2)
            assert err.count("\n") == (code == 2), err


def test_a_planted_exception_is_seen(corpus: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path) -> None:
        raise pickle.UnpicklingError("planted")

    monkeypatch.setitem(READERS, "table", fails)
    with pytest.raises(AssertionError, match="UnpicklingError"):
        outcomes("table", 1, corpus["table"], [b""], corpus["table"][0].parent)
