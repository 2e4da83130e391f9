"""Who may import whom, as the design says. Without this, a shortcut costs nothing on the day it is taken."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.project.source import files, imports, name, tree, uses

VENDORS = sorted(p.parent.name for p in files("plugins/threat_response/vendors") if p.name == "api.py")
APIS = [p for p in files("plugins/threat_response/vendors") if p.name == "api.py"]
PURE = [p for p in files("include/soar") if "ledger" not in p.parts] + APIS

#: What lies beside the vendors' folders is for all of them. The registry knows them, and so is none of it.
SHARED = ("threat_response.runtime", "threat_response.transport", "threat_response.stages")

#: What a file without I/O has no use for: a client, a clock, the environment, a log, chance.
IMPURE_MODULES = (
    *("airflow", "requests", "httpx", "aiohttp", "urllib3", "urllib.request", "http.client", "socket"),
    *("os", "time", "logging", "structlog", "subprocess", "threading", "asyncio", "random", "secrets"),
    *("sqlalchemy", "alembic"),
)
#: Of ``socket``, what only turns an address into bytes and back: it opens none.
CONVERSIONS = {f"socket.{name}" for name in ("AF_INET", "AF_INET6", "inet_aton", "inet_ntoa", "inet_ntop", "inet_pton")}
IMPURE_USES = (
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "dt.datetime.now", "datetime.datetime.now"),
    *("uuid.uuid1", "uuid.uuid4", "uuid4", "environ"),
)
#: How a file is touched, by whatever object, and where a pure room may do so.
FILE_USES = {
    *("open", "tempfile", "NamedTemporaryFile", "shutil", "stat", "exists", "is_file", "is_dir", "mkdir", "unlink"),
    *("read_text", "read_bytes", "write_text", "write_bytes", "glob", "rglob", "iterdir", "touch"),
}
FILE_READERS = {"include/soar/gate/index_file.py", "include/soar/policy/file.py"}


def is_below(module: str, parents: tuple[str, ...]) -> bool:
    return any(module == parent or module.startswith(parent + ".") for parent in parents)


def ours(path: Path) -> set[str]:
    return {
        m
        for m in imports(path)
        if is_below(m, ("include", "threat_response", "plugins", "dags", "tests")) or m[0] == "."
    }


def test_the_walk_finds_what_it_is_about() -> None:
    assert {"abuseipdb", "list_feed"} <= set(VENDORS)
    assert {"observable.py", "wire.py", "rules.py"} <= {p.name for p in PURE}


@pytest.mark.parametrize("path", PURE, ids=name)
def test_the_core_and_every_api_are_pure(path: Path) -> None:
    assert {m for m in imports(path) if is_below(m, IMPURE_MODULES)} - CONVERSIONS == set()
    assert uses(path) & set(IMPURE_USES) == set()
    assert {m for m in ours(path) if not m.startswith("include.soar.") and path not in APIS} == set()


def test_only_two_pure_modules_touch_files() -> None:
    """They hand what they read to the others, which are the same on every machine."""
    touching = {name(path) for path in PURE if names_used(path) & FILE_USES}
    assert touching == FILE_READERS


def names_used(path: Path) -> set[str]:
    nodes = list(ast.walk(tree(path)))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return attributes | {node.id for node in nodes if isinstance(node, ast.Name)}


@pytest.mark.parametrize("path", files("include/soar"), ids=name)
def test_the_core_imports_nothing_of_ours_but_itself(path: Path) -> None:
    assert {m for m in ours(path) if not m.startswith("include.soar")} == set()
    assert not {m for m in imports(path) if is_below(m, ("airflow", "requests", "httpx"))}


@pytest.mark.parametrize("path", APIS, ids=name)
def test_an_api_stands_on_the_core_and_its_own_folder(path: Path) -> None:
    own = f"threat_response.vendors.{path.parent.name}"
    assert {m for m in ours(path) if not is_below(m, ("include.soar", own))} == set()
    assert {m for m in ours(path) if is_below(m, (f"{own}.hook", f"{own}.operators"))} == set()


@pytest.mark.parametrize(
    "path", [p for p in files("plugins/threat_response/vendors") if p.parent.name in VENDORS], ids=name
)
def test_a_vendor_never_imports_another(path: Path) -> None:
    own = f"threat_response.vendors.{path.parent.name}"
    assert {m for m in ours(path) if not is_below(m, (*SHARED, own, "include.soar"))} == set()
    if path.name == "hook.py":
        assert not {m for m in ours(path) if is_below(m, (f"{own}.operators", "threat_response.stages.control"))}


@pytest.mark.parametrize("path", files("include/simulators"), ids=name)
def test_a_simulator_shares_no_code_with_the_clients(path: Path) -> None:
    """If both shared a parser, both would share the bug."""
    assert {m for m in ours(path) if not is_below(m, ("include.simulators",))} == set()
    assert not {m for m in imports(path) if is_below(m, ("airflow",))}


@pytest.mark.parametrize("path", files("include/soar", "plugins", "dags"), ids=name)
def test_production_imports_no_test_no_simulator_and_no_demo(path: Path) -> None:
    others = (
        "tests",
        "include.simulators",
        "include.demo",
        "include.bench",
        "include.ops",
        "pytest",
        "hypothesis",
        "unittest",
    )
    assert {m for m in imports(path) if is_below(m, others)} == set()
