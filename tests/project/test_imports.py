"""Who may import whom, as the design says. Without this, a shortcut costs nothing on the day it is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.project.source import files, imports, name, uses

VENDORS = sorted(p.parent.name for p in files("plugins/vendors") if p.name == "api.py")
APIS = [p for p in files("plugins/vendors") if p.name == "api.py"]
PURE = [p for p in files("include/soar") if "ledger" not in p.parts] + APIS

#: What lies beside the vendors' folders is for all of them. The registry knows them, and so is none of it.
SHARED = tuple(
    f"vendors.{p.stem}"
    for p in files("plugins/vendors")
    if p.parent.name == "vendors" and p.stem not in ("__init__", "registry", "provider_info")
)

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


def is_below(module: str, parents: tuple[str, ...]) -> bool:
    return any(module == parent or module.startswith(parent + ".") for parent in parents)


def ours(path: Path) -> set[str]:
    return {m for m in imports(path) if is_below(m, ("include", "vendors", "plugins", "dags", "tests")) or m[0] == "."}


def test_the_walk_finds_what_it_is_about() -> None:
    assert {"abuseipdb", "list_feed"} <= set(VENDORS)
    assert {"model.py", "wire.py", "policy.py"} <= {p.name for p in PURE}
    assert {"vendors.base", "vendors.house", "vendors.contracts"} <= set(SHARED)


@pytest.mark.parametrize("path", PURE, ids=name)
def test_the_core_and_every_api_are_pure(path: Path) -> None:
    assert {m for m in imports(path) if is_below(m, IMPURE_MODULES)} - CONVERSIONS == set()
    assert uses(path) & set(IMPURE_USES) == set()
    assert {m for m in ours(path) if not m.startswith("include.soar.") and path not in APIS} == set()


@pytest.mark.parametrize("path", files("include/soar"), ids=name)
def test_the_core_imports_nothing_of_ours_but_itself(path: Path) -> None:
    assert {m for m in ours(path) if not m.startswith("include.soar")} == set()
    assert not {m for m in imports(path) if is_below(m, ("airflow", "requests", "httpx"))}


@pytest.mark.parametrize("path", APIS, ids=name)
def test_an_api_stands_on_the_core_and_its_own_folder(path: Path) -> None:
    own = f"vendors.{path.parent.name}"
    assert {m for m in ours(path) if not is_below(m, ("include.soar", own))} == set()
    assert {m for m in ours(path) if is_below(m, (f"{own}.hook", f"{own}.operators"))} == set()


@pytest.mark.parametrize("path", [p for p in files("plugins/vendors") if p.parent.name in VENDORS], ids=name)
def test_a_vendor_never_imports_another(path: Path) -> None:
    own = f"vendors.{path.parent.name}"
    # "from vendors import house" is the name vendors.house.
    assert {m for m in ours(path) if not is_below(m, (*SHARED, own, "include.soar"))} == set()
    if path.name == "hook.py":
        assert not {m for m in ours(path) if is_below(m, (f"{own}.operators", "vendors.contracts"))}


@pytest.mark.parametrize("path", [p for p in files("plugins/vendors") if p.parent.name == "vendors"], ids=name)
def test_only_the_registry_knows_the_vendors(path: Path) -> None:
    known = {m for m in ours(path) if is_below(m, tuple(f"vendors.{v}" for v in VENDORS))}
    if path.name == "registry.py":
        assert all(".operators." in module for module in known)
    else:
        assert known == set()
    assert not {m for m in ours(path) if is_below(m, ("include.simulators", "include.demo", "tests"))}


@pytest.mark.parametrize("path", files("include/simulators"), ids=name)
def test_a_simulator_shares_no_code_with_the_clients(path: Path) -> None:
    """If both shared a parser, both would share the bug."""
    assert {m for m in ours(path) if not is_below(m, ("include.simulators",))} == set()
    assert not {m for m in imports(path) if is_below(m, ("airflow",))}


@pytest.mark.parametrize("path", files("dags"), ids=name)
def test_a_dag_names_no_vendor(path: Path) -> None:
    allowed = ("vendors.registry", "vendors.house", "vendors.base", "vendors.approval", "include.soar")
    assert {m for m in ours(path) if not is_below(m, allowed)} == set()


@pytest.mark.parametrize("path", [p for p in files("plugins") if "/vendors/" not in name(p)], ids=name)
def test_the_page_reads_the_core_and_nothing_else(path: Path) -> None:
    allowed = ("include.soar", "threat_response_page", "vendors.house", "vendors.registry")
    assert {m for m in ours(path) if not is_below(m, allowed)} == set()
    assert not {m for m in imports(path) if is_below(m, ("requests", "httpx"))}


@pytest.mark.parametrize("path", files("include/ops"), ids=name)
def test_what_people_ask_needs_the_core_and_no_airflow(path: Path) -> None:
    assert {m for m in ours(path) if not is_below(m, ("include.ops", "include.soar"))} == set()
    assert not {m for m in imports(path) if is_below(m, ("airflow", "requests", "httpx"))}


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
