"""Check every shape comment of the room against the tensors: the models run line by line under a trace.

A letter stands for one number within a function call. It is the local of that name, or the size where the letter comes
first. A primed letter stands for any size. A line that makes a shape that is new to its function needs a comment.
"""

import ast
import re
import sys
import textwrap
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from bias_lab.backbones import fast_swin, mobilevit, shared, small, swin, vit, windows
from bias_lab.backbones.heads import interface, linear, matched, pyramid, segvit, unet

HEADS = (interface, linear, matched, pyramid, segvit, unet)
ROOM = (shared, vit, swin, fast_swin, windows, mobilevit, small, *HEADS)


class Lines:
    """A file's simple statements by line, and the shapes in their comments (of several, one must be true)."""

    def __init__(self, text: str) -> None:
        self.statements: dict[int, ast.stmt] = {}
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.Return | ast.Expr):
                self.statements |= dict.fromkeys(range(node.lineno, (node.end_lineno or node.lineno) + 1), node)
        self.promises: dict[ast.stmt, list[str]] = {}
        for number, line in enumerate(text.splitlines(), 1):
            comment = re.search(r"  # (?:each )?\(.*", line)
            if comment and number in self.statements:
                self.promises[self.statements[number]] = re.findall(r"\(([^()]+)\)", comment[0])


def tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for part in value for t in tensors(part)] if isinstance(value, list | tuple) else []


def results(statement: ast.stmt, frame: FrameType, returned: object) -> list[Tensor]:
    """Return the tensors of a statement: its targets' values, what it returned, or what it appended."""
    if isinstance(statement, ast.Return):
        return tensors(returned)
    if isinstance(statement, ast.Expr):
        text = ast.unparse(statement)
        return tensors(frame.f_locals[text.split(".")[0]][-1]) if re.match(r"\w+\.append\(", text) else []
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    names = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return [t for name in names for t in tensors(frame.f_locals.get(name))]


def fits(promise: str, shape: tuple[int, ...], letters: dict[str, int]) -> dict[str, int] | None:
    """Return the letters with those of a true comment added, or None if the shape contradicts the comment."""
    sides = [re.sub(r"(\d)([A-Za-z])", r"\1*\2", side.strip()) for side in promise.split(",")]
    if sides[0] == "...":  # (..., D)
        sides, shape = sides[1:], shape[1 - len(sides) :]
    if sides[-1] in ("...", ""):  # (B, 1, ...), (N,)
        sides, shape = sides[:-1], shape if sides[-1] == "" else shape[: len(sides) - 1]
    if len(sides) != len(shape):
        return None
    found = dict(letters)
    for side, size in zip(sides, shape, strict=True):
        known = all(name in found for name in re.findall(r"[A-Za-z]\w*", side))
        if "'" in side:
            continue
        expected = eval(side.replace("/", "//"), {}, found) if known else found.setdefault(side, size)
        if expected != size:
            return None
    return found


class Trace:
    """Follows the frames of some code. It keeps the faults, and the statements whose comments were checked."""

    def __init__(self, files: dict[str, Lines]) -> None:
        self.files, self.faults, self.seen = files, set(), set()
        self.at: dict[FrameType, int] = {}  # the line that a frame executes
        self.letters: dict[FrameType, dict[str, int]] = {}
        self.shapes: dict[FrameType, set[tuple[int, ...]]] = {}

    def __call__(self, frame: FrameType, event: str, returned: object) -> "Trace | None":
        lines = self.files.get(frame.f_code.co_filename)
        if lines is None or frame.f_code.co_name.startswith("<"):
            return None
        if event == "call":
            self.letters[frame] = {}
            self.shapes[frame] = {tuple(t.shape) for value in frame.f_locals.values() for t in tensors(value)}
        left = lines.statements.get(self.at.get(frame, 0))
        if event in ("line", "return"):
            if left is not None and (event == "return" or lines.statements.get(frame.f_lineno) is not left):
                self.check(lines, left, frame, returned)
            self.at[frame] = frame.f_lineno
        if event == "return":
            for kept in (self.at, self.letters, self.shapes):
                kept.pop(frame, None)
        return self

    def check(self, lines: Lines, statement: ast.stmt, frame: FrameType, returned: object) -> None:
        values = results(statement, frame, returned)
        promises = lines.promises.get(statement)
        place = f"{Path(frame.f_code.co_filename).name}:{statement.lineno}"
        letters, assigns = (
            self.letters[frame],
            not isinstance(statement, ast.Return),
        )  # a returned shape stands in the docstring
        letters |= {k: v for k, v in frame.f_locals.items() if type(v) is int}
        for tensor in values:
            shape = tuple(tensor.shape)
            if promises is not None:
                self.seen.add(statement)
                kept = [found for promise in promises if (found := fits(promise, shape, letters)) is not None]
                if not kept:
                    self.faults.add(f"{place}: {shape} is not ({'), ('.join(promises)}) with {letters}")
                letters |= kept[0] if kept else {}
            elif shape not in self.shapes[frame] and len(shape) > 1 and not isinstance(tensor, Parameter) and assigns:
                self.faults.add(f"{place}: a new shape {shape}, and no comment says so")
        self.shapes[frame] |= {tuple(t.shape) for value in frame.f_locals.values() for t in tensors(value)}


@contextmanager
def traced(files: dict[str, Lines]):
    trace, before = Trace(files), sys.gettrace()
    sys.settrace(trace)
    try:
        yield trace
    finally:
        sys.settrace(before)


def walk() -> None:
    """Run every branch of the models, where possible at sizes at which no two letters are the same number."""
    images = torch.randn(3, 2, 24, 40)
    common = dict(in_chans=2, num_classes=7)
    shape = dict(img_size=(24, 40), patch_size=8, embed_dim=20, depth=2, num_heads=5, **common)
    for pool, token in (("token", True), ("avg", True), ("avg", False)):
        model = vit.VisionTransformer(global_pool=pool, class_token=token, **shape)
        model.set_grad_checkpointing(pool == "avg")
        model(images).sum().backward()
        model.forward_intermediates(images)
        model.get_intermediate_layers(images, n=2, reshape=True, norm=True)
        model.forward_head(model.forward_features(images), pre_logits=True)
        model.patch_embed.proj = torch.nn.Sequential(model.patch_embed.proj)  # a stem of another kind is called
        shared.attention_map(model.blocks[0].attn, model.embed(images))
    for patch, window in ((2, 4), (4, (3, 5)), (3, 5)):
        shape = dict(img_size=(24, 40), patch_size=patch, window_size=window, embed_dim=12, depths=(2, 2, 1))
        model = swin.SwinTransformer(num_heads=(2, 3, 6), **shape, **common)
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                model(images)
                model.set_grad_checkpointing()
        model.forward_intermediates(images)
        model.forward_head(model.forward_features(images), pre_logits=True)
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setattr(fast_swin, "TOKENS", 1)  # a sample at a time
            model.eval()(images)
        model.layers[0].blocks[0].register_forward_hook(lambda *_: None)  # the text, not the faster order
        model(images)
    windows.window_reverse(windows.window_partition(torch.randn(3, 6, 8, 5), (3, 4)), (3, 4), 6, 8)
    windows.resample_table(torch.randn(25, 2), (3, 3), (4, 4))
    for side in (32, 24):
        model = mobilevit.MobileViT(**mobilevit.SIZES["mobilevit_micro"], **common)
        model(torch.randn(3, 2, side, side + 4))
        model.eval()(torch.randn(3, 2, side, side + 4))  # the norms are folded into the convolutions
        model.set_grad_checkpointing()
        model.forward_intermediates(torch.randn(3, 2, side, side + 4))
    model.final_conv.conv.register_forward_hook(lambda *_: None)  # a 1x1 convolution with a hook is called
    model(torch.randn(3, 2, 32, 36))
    small.efficientvit(**small.SIZES["efficientvit_micro"], drop_path_rate=0.1, in_chans=1)(torch.randn(2, 1, 28, 28))
    for name in ("linear", "pyramid", "segvit", "matched", "unet"):
        shape = dict(img_size=(24, 40), embed_dim=20, in_chans=2, num_classes=0)
        tiny = vit.VisionTransformer(patch_size=4, depth=3, num_heads=5, **shape)
        if name == "unet":
            tiny = swin.SwinTransformer(patch_size=2, window_size=4, depths=(1, 1, 1), num_heads=(2, 4, 5), **shape)
        backbone = "swin_micro" if name == "unet" else "vit_micro"
        interface.dense(tiny, backbone, head=name, classes=7, channels=2, image_size=(24, 40))(images)


def test_every_shape_comment_is_true_and_every_new_shape_has_one() -> None:
    files = {str(module.__file__): Lines(Path(str(module.__file__)).read_text(encoding="utf-8")) for module in ROOM}
    with traced(files) as trace:
        walk()
    assert sorted(trace.faults) == []
    unseen = [
        f"{Path(name).name}:{node.lineno}" for name, f in files.items() for node in f.promises if node not in trace.seen
    ]
    assert unseen == []


def faults_of(tmp_path: Path, body: str, *arguments: object) -> set[str]:
    """Return the faults that the trace finds in a function `f` with this body."""
    path = tmp_path / "planted.py"
    path.write_text("def f(x):\n" + textwrap.indent(textwrap.dedent(body), "    "))
    module = ModuleType("planted")
    code: CodeType = compile(path.read_text(), str(path), "exec")
    exec(code, module.__dict__)
    f: Callable[..., object] = module.f
    with traced({str(path): Lines(path.read_text())}) as trace:
        f(*arguments)
    return trace.faults


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("x = x.transpose(0, 1)  # (B, N)\nx = x.t()  # (B, N)", "3:"),
        ("B, N = x.shape\nx = x.reshape(N, B)  # (B, N)", "3:"),
        ("x = x[None]  # (B, N)", "2:"),
        ("B, N = x.shape\nx = x.repeat(1, 2)  # (B, 3N)", "3:"),
        ("x = x.repeat(1, 2)", "a new shape"),
        ("return x.flatten()  # (B, N)", "2:"),
    ],
    ids=["swapped", "reshaped", "rank", "multiple", "silent", "returned"],
)
def test_a_planted_comment_is_seen(tmp_path: Path, body: str, fault: str) -> None:
    (report,) = faults_of(tmp_path, body, torch.randn(2, 5))
    assert f"planted.py:{fault}" in report or fault in report


def test_a_true_comment_passes(tmp_path: Path) -> None:
    body = """
        B, N = x.shape
        x = x.repeat(1, 2)  # (B, 2N)
        y, z = x.split(N, 1)  # each (B, N)
        return y @ z.t()  # (B, B)
    """
    assert faults_of(tmp_path, body, torch.randn(2, 5)) == set()
