"""The project's Python files, and what each of them imports and calls, read without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.conftest import ROOT


def files(*folders: str) -> list[Path]:
    """Every Python file below these folders of the project, in order."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), name(path))


def imports(path: Path) -> set[str]:
    """Dotted names of the modules, and of the names taken from them, wherever in the file the import stands."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of an expression that is a chain of names; empty for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            # Also of a call on something that is no plain name: `x().y(...)` is "y".
            yield dotted(node.func) or getattr(node.func, "attr", ""), node


def uses(path: Path) -> set[str]:
    """Every chain of names that is read anywhere in the file."""
    return {text for node in ast.walk(tree(path)) if isinstance(node, ast.expr) and (text := dotted(node))}
