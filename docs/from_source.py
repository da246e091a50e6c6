"""Two Sphinx directives that write a part of the site from the source, `api` and `commands`, and the charts.

`api` reads the source with `ast` and imports nothing of the package's heavy half, so that the site is built without
torch. Docstrings are Markdown.
"""

import ast
import contextlib
import io
import os
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parent.parent
Definition = ast.FunctionDef | ast.ClassDef


def source_file(module: str) -> Path:
    """Return the file of a module, by its dotted name."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def parsed(module: str) -> ast.Module:
    return ast.parse(source_file(module).read_text(encoding="utf-8"))


def names(module: str) -> list[str]:
    """Return the names in `__all__`, or else the public functions and classes of the file."""
    tree = parsed(module)
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return list(ast.literal_eval(node.value))
    return [node.name for node in tree.body if isinstance(node, Definition) and not node.name.startswith("_")]


def find(module: str, name: str) -> tuple[str, Definition | None]:
    """Return the module that defines a name, and its definition there, None for a plain value. Follow imports."""
    tree = parsed(module)
    for node in tree.body:
        if isinstance(node, Definition) and node.name == name:
            return module, node
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and name in {alias.name for alias in node.names}:
            return find(node.module, name)
    return module, None


# --- docstrings as Markdown ------------------------------------------------------------------------------------------

_ENTRY = re.compile(r"([a-z_*][\w*]*(?:, [a-z_*][\w*]*)*): (?=\S)")  # `images, labels: …` opens a line
_NEXT = re.compile(r"(?<=[.)]) (?=[a-z_*][\w*]*(?:, [a-z_*][\w*]*)*: \S)")  # where another follows it in the same line


def prose(text: str) -> str:
    """Return a docstring as Markdown: examples in fences, `name: meaning` lines as a list, no HTML."""
    lines: list[str] = []
    in_example = in_entry = False
    before = ""
    for line in _NEXT.sub("\n", text).splitlines():
        opens = line.lstrip().startswith(">>> ")
        if opens and not in_example:
            lines += [""] * bool(lines and lines[-1]) + ["```python"]
            in_example = True
        elif in_example and not line.strip():
            lines += ["```"]
            in_example = False
        entry = _ENTRY.match(line) if not in_example and (not before or before.endswith((".", ":", ")"))) else None
        if in_example:
            lines.append(line)
        elif entry:
            lines += [""] * bool(lines and lines[-1] and not lines[-1].startswith(("- ", "  ")))
            in_entry = True
            lines.append(f"- **{entry[1]}**: {escaped(line[entry.end() :])}")
        else:
            if in_entry and line and not line.startswith(" ") and before.endswith((".", ":")):
                lines.append("")  # the list ends, and a paragraph begins
                in_entry = False
            lines.append(escaped(line))
        before = line.strip()
    return "\n".join([*lines, *["```"] * in_example])


def escaped(line: str) -> str:
    """Return a line of prose whose < and * outside of backquotes are no markup."""
    parts = line.split("`")
    return "`".join(re.sub(r"([<*])", r"\\\1", part) if k % 2 == 0 else part for k, part in enumerate(parts))


def signature(node: Definition) -> str:
    """Return what stands in the brackets, and what is returned. Fields of a dataclass stand in a table instead."""
    if isinstance(node, ast.FunctionDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"({ast.unparse(without_self(node.args))}){returns}"
    init = next((m for m in node.body if isinstance(m, ast.FunctionDef) and m.name == "__init__"), None)
    return f"({ast.unparse(without_self(init.args))})" if init else ""


def without_self(arguments: ast.arguments) -> ast.arguments:
    if arguments.args and arguments.args[0].arg in ("self", "cls"):
        arguments.args = arguments.args[1:]
    return arguments


def fields(node: ast.ClassDef, module: str) -> list[str]:
    """Return the table of a dataclass's fields, with the comments that stand after or above them."""
    text = source_file(module).read_text(encoding="utf-8").splitlines()
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return []
    rows = []
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            comment = text[part.lineno - 1].partition("  # ")[2].replace("|", "\\|")
            default = f"`{ast.unparse(part.value)}`" if part.value else ""
            kind = ast.unparse(part.annotation).replace("|", "\\|")
            rows.append(f"| `{part.target.id}` | `{kind}` | {default} | {escaped(comment)} |")
    return ["", "| field | type | default | meaning |", "| --- | --- | --- | --- |", *rows, ""] if rows else []


def opening(method: ast.FunctionDef) -> Iterator[str]:
    """Yield the lines that open the description of a method or a property."""
    how = [name for name in map(ast.unparse, method.decorator_list) if name in ("classmethod", "staticmethod")]
    if any("property" in ast.unparse(decorator) for decorator in method.decorator_list):
        kind = f"\n:type: {ast.unparse(method.returns)}" if method.returns else ""
        yield f"````{{py:property}} {method.name}{kind}\n"
    else:
        yield f"````{{py:method}} {method.name}{signature(method)}" + "".join(f"\n:{name}:" for name in how) + "\n"


def described(module: str, name: str, shown: str) -> Iterator[str]:
    """Yield the lines of a name's description as MyST Markdown. shown: the dotted name that a user imports."""
    home, node = find(module, name)
    if node is None:
        return
    kind = "class" if isinstance(node, ast.ClassDef) else "function"
    yield f"`````{{py:{kind}}} {shown}{signature(node)}"
    yield prose(ast.get_docstring(node) or "")
    if isinstance(node, ast.ClassDef):
        yield from fields(node, home)
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and ast.get_docstring(method):
                yield from opening(method)
                yield prose(ast.get_docstring(method) or "")
                yield "````\n"
    yield "`````\n"


class Api(SphinxDirective):
    """Describe the names of a module: `{api} bias_lab.statistics`, and after it some of its names (default: all)."""

    required_arguments = 1
    optional_arguments = 99

    def run(self) -> list[nodes.Node]:
        module, *chosen = self.arguments
        self.env.note_dependency(str(source_file(module)))
        lines = []
        for name in chosen or names(module):
            lines += described(module, name, f"{module}.{name}")
        return self.parse_text_to_nodes("\n".join(lines))


class Commands(SphinxDirective):
    """Print the help of every command, under a heading of its own."""

    def run(self) -> list[nodes.Node]:
        from bias_lab.cli import flags
        from bias_lab.cli.main import COMMANDS

        parser, known = flags.build(COMMANDS)
        os.environ["COLUMNS"] = "88"
        parts = []
        for name in known:
            with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
                parser.parse_args([name, "--help"])
            parts.append(f"## bias-lab {name}\n\n```text\n{said.getvalue().strip()}\n```\n")
        return self.parse_text_to_nodes("\n".join(parts), allow_section_headings=True)


def inline_charts(app: Any, tree: nodes.document) -> None:
    """Replace each image `NAME-wide.svg` by its drawing and by `NAME-narrow.svg`, in the page's own colours.

    A chart is a plain image in Markdown, so that it also shows where the pages are read without Sphinx.
    """
    for image in list(tree.findall(nodes.image)):
        path = Path(app.srcdir) / image["uri"]
        if path.name.endswith("-wide.svg"):
            drawn = []
            for one in (path, path.with_name(path.name.replace("-wide.", "-narrow."))):
                app.env.note_dependency(str(one))
                drawn.append(re.sub(r"<style>.*?</style>", "", one.read_text(encoding="utf-8"), flags=re.S))
            caption = f"<figcaption>{escape(image['alt'])}</figcaption>"
            html = f"<figure class='lab-chart'>{''.join(drawn)}{caption}</figure>"
            image.replace_self(nodes.raw("", html, format="html"))


def setup(app: Any) -> dict[str, bool]:
    """Register the directives and the charts."""
    for name, directive in (("api", Api), ("commands", Commands)):
        app.add_directive(name, directive)
    app.connect("doctree-read", inline_charts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
