"""The written rules that a program can check. A rule without a check is a wish."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

from include.simulators.app import SIMULATORS
from tests.conftest import ROOT
from tests.project.source import calls, dotted, files, name, tree
from threat_response import vendors
from threat_response.transport.hook import VendorHook

#: Alembic's entry is a script: it is only ever run.
PRODUCTION = [p for p in files("include/soar", "plugins", "dags") if p.parts[-2:] != ("migrations", "env.py")]
#: Reading these while a file is parsed would happen every few seconds, in the DAG processor.
READS = {
    *("get_connection", "BaseHook.get_connection", "Connection.get", "Variable.get", "Variable.set"),
    *("os.getenv", "getenv", "os.environ.get", "open", "requests.get", "requests.post", "urlopen"),
    *("read_text", "read_bytes", "settings.policy", "settings.ledger", "load_policy", "Ledger", "create_engine"),
}
#: Wait for a real process to start: nothing else could tell that it has.
MAY_SLEEP = {"tests/support.py", "tests/dags/test_whole_airflow.py"}


def at_import(path: Path) -> list[ast.Call]:
    """The calls that run when the file is imported: not those inside of functions."""
    found: list[ast.Call] = []

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                for part in (*getattr(child, "decorator_list", ()), *child.args.defaults, *child.args.kw_defaults):
                    if part is not None:
                        visit(ast.Expr(part))
                continue
            if isinstance(child, ast.Call):
                found.append(child)
            visit(child)

    visit(tree(path))
    return found


@pytest.mark.parametrize("path", PRODUCTION, ids=name)
def test_nothing_is_read_while_a_file_is_imported(path: Path) -> None:
    names = {dotted(call.func) or getattr(call.func, "attr", "") for call in at_import(path)}
    assert names & READS == set()
    assert {n for n in names if n.rsplit(".", 1)[-1] in ("get_connection", "getenv")} == set()


@pytest.mark.parametrize("path", files("include", "plugins", "tests"), ids=name)
def test_every_call_over_http_has_a_timeout(path: Path) -> None:
    without = [
        f"line {call.lineno}: {function}"
        for function, call in calls(path)
        if function
        in {f"requests.{verb}" for verb in ("get", "post", "put", "patch", "delete", "head", "request")}
        | {"session.request", "urlopen", "urllib.request.urlopen", "httpx.get", "httpx.post"}
        and not {"timeout", None} & {keyword.arg for keyword in call.keywords}
    ]
    assert without == []


@pytest.mark.parametrize("path", files("tests"), ids=name)
def test_no_test_sleeps(path: Path) -> None:
    if name(path) not in MAY_SLEEP:
        assert [call.lineno for function, call in calls(path) if function in ("time.sleep", "sleep")] == []


@pytest.mark.parametrize("path", files("include/soar", "plugins"), ids=name)
def test_no_assert_in_production(path: Path) -> None:
    """``python -O`` would take it out."""
    assert [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Assert)] == []


@pytest.mark.parametrize("product", SIMULATORS)
def test_a_simulator_says_what_it_does_not_imitate(product: str) -> None:
    text = ast.get_docstring(tree(ROOT / f"include/simulators/{product}/__init__.py")) or ""
    words = " ".join(text.lower().split())
    assert "not imitate" in words
    assert "seed" in words
    assert "knob" in words


def hooks() -> list[type[VendorHook]]:
    for module in pkgutil.iter_modules(vendors.__path__):
        if module.ispkg:
            importlib.import_module(f"threat_response.vendors.{module.name}.hook")
    found, below = [], [VendorHook]
    while below:
        below = [
            hook
            for parent in below
            for hook in parent.__subclasses__()
            if hook.__module__.startswith("threat_response.vendors.")
        ]
        found += below
    return sorted(found, key=lambda hook: hook.__module__)


@pytest.mark.parametrize("hook", hooks(), ids=lambda hook: hook.__name__)
def test_no_verb_gives_a_generator(hook: type[VendorHook]) -> None:
    """A generator that nobody consumes has done nothing, and looks as if it had."""
    lazy = [n for n, f in vars(hook).items() if inspect.isgeneratorfunction(f) and not n.startswith("_")]
    assert [n for n in lazy if not n.startswith("iter_")] == []


@pytest.mark.parametrize("path", files("include/soar", "plugins", "dags", "include/simulators"), ids=name)
def test_every_file_says_what_it_is(path: Path) -> None:
    if path.stat().st_size:
        assert ast.get_docstring(tree(path))
