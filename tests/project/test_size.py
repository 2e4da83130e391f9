"""Nothing grows without being noticed: the longest function, class and file, and the fullest folder."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.source import files, name, tree

FUNCTION, CLASS, FILE, FOLDER = 45, 250, 550, 12
CODE = [path for path in files("include/soar", "plugins", "dags") if "migrations" not in path.parts]


def lengths(path: Path, kinds: tuple[type[ast.AST], ...]) -> Iterator[tuple[int, str]]:
    """Lines of each definition of these kinds, from its first decorator to its end."""
    for node in ast.walk(tree(path)):
        if isinstance(node, kinds) and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield (node.end_lineno or first) - first + 1, f"{name(path)}:{node.name}"


def largest() -> dict[str, tuple[int, str]]:
    """The largest function, class, file and folder: size and place."""
    folders = Counter(
        name(path.parent) for path in files("include", "plugins", "dags", "tests") if path.name != "__init__.py"
    )
    return {
        "function": max(one for path in CODE for one in lengths(path, (ast.FunctionDef, ast.AsyncFunctionDef))),
        "class": max(one for path in CODE for one in lengths(path, (ast.ClassDef,))),
        "file": max((len(path.read_text("utf-8").splitlines()), name(path)) for path in CODE),
        "folder": max((count, folder) for folder, count in folders.items()),
    }


@pytest.mark.parametrize("path", CODE, ids=name)
def test_a_file_and_what_it_defines_are_small(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= FILE
    assert [one for one in lengths(path, (ast.FunctionDef, ast.AsyncFunctionDef)) if one[0] > FUNCTION] == []
    assert [one for one in lengths(path, (ast.ClassDef,)) if one[0] > CLASS] == []


def test_a_folder_is_taken_in_at_a_glance() -> None:
    size, folder = largest()["folder"]
    assert size <= FOLDER, folder


def test_a_long_function_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.project.source.ROOT", tmp_path)
    (tmp_path / "long.py").write_text("def f():\n" + "    pass\n" * 45, "utf-8")
    (found,) = lengths(tmp_path / "long.py", (ast.FunctionDef,))
    assert found == (46, "long.py:f")


if __name__ == "__main__":
    for what, (size, place) in largest().items():
        print(f"largest {what:8} {size:5}  {place}")
