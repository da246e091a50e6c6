"""The prose of the package: sentences that read plainly, held by two figures that other libraries keep."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bias_lab"
FILES = [path for folder in (PACKAGE, PACKAGE.parent / "experiments") for path in sorted(folder.rglob("*.py"))]
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
NOUN_PHRASES = ("What", "Whether", "The", "A", "An", "How", "Which", "Where", "Whose", "So", "All", "Every", "Each")
HOMELY = ("judge", "mend", "foretold", "the door", "seen to", "thought over")


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, docstring) of a file and of what it defines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, DEFINITIONS) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", "module"), text


def prose(path: Path) -> str:
    """Return a file's docstrings and comments, code in backquotes and doctests left out."""
    parts = [text for _, text in docstrings(path)]
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith("# type:"):
            parts.append(token.string.lstrip("# "))
    text = "\n".join(parts)
    return re.sub(r"`[^`]*`|^\s*(>>>|\.\.\.).*$", "x", text, flags=re.M)


def test_semicolons_are_as_rare_as_in_other_libraries() -> None:
    """torchmetrics, Lightning and timm have one in 80 to 1,000 sentences."""
    text = "\n".join(prose(path) for path in FILES)
    sentences = len(re.findall(r"[.!?](?=\s|$)", text))
    assert text.count(";") <= sentences / 80, f"{text.count(';')} semicolons in {sentences} sentences"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE.parent).as_posix())
def test_the_docstring_of_a_function_opens_with_a_verb(path: Path) -> None:
    opens = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
            is_property = any(getattr(d, "id", getattr(d, "attr", "")) == "property" for d in node.decorator_list)
            if text.split()[0].strip(",.:") in NOUN_PHRASES and not is_property:
                opens[node.name] = text.splitlines()[0]
    assert opens == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE.parent).as_posix())
def test_words_are_the_fields_own(path: Path) -> None:
    text = prose(path).lower()
    assert [word for word in HOMELY if re.search(rf"\b{word}", text)] == []
