"""A vendor is one folder, one registry line, one connection type, one simulator and one folder of tests: all of it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import BaseOperator

from include.simulators.app import SIMULATORS
from tests.conftest import ROOT
from threat_response.provider_info import get_provider_info
from threat_response.registry import BLOCK, CONFIRM, ENRICH, FETCH, INCIDENTS, REFRESH, WATCH
from threat_response.stages.control import ConfirmSensor, ControlOperator
from threat_response.stages.enrich import EnrichOperator
from threat_response.stages.fetch import Fetch
from threat_response.transport.hook import VendorHook

CONTROLS = {name: operator for place in BLOCK.values() for name, operator in place.items()}
OPERATORS: list[type[BaseOperator]] = [
    *FETCH.values(),
    *ENRICH.values(),
    *REFRESH.values(),
    *INCIDENTS,
    *CONTROLS.values(),
    *CONFIRM.values(),
    *WATCH.values(),
]
#: Folder names of every vendor that the registry names.
VENDORS = sorted({operator.__module__.split(".")[2] for operator in OPERATORS})
#: Those that change something outside.
WRITERS = sorted({o.__module__.split(".")[2] for o in (*INCIDENTS, *CONTROLS.values(), *WATCH.values())})
TYPES: dict[str, dict[str, Any]] = {t["connection-type"]: t for t in get_provider_info()["connection-types"]}
HEADINGS = ("## Connection (`{vendor}`)", "## Permissions and quota", "## What happens when")
SECRET = re.compile(r"(secret|token|password)(?!_path)|api_key", re.I)


def folder(vendor: str) -> Path:
    return ROOT / "plugins/threat_response/vendors" / vendor


def hook_of(vendor: str) -> type[VendorHook]:
    module, _, name = TYPES[vendor]["hook-class-name"].rpartition(".")
    found: type[VendorHook] = getattr(importlib.import_module(module), name)
    return found


def talks(vendor: str) -> bool:
    """Whether there is somebody to talk to, and so somebody to simulate. A file that lies here has no host."""
    return "host" not in TYPES.get(vendor, {}).get("ui-field-behaviour", {}).get("hidden-fields", ())


def missing(vendor: str) -> list[str]:
    tests = ROOT / "tests/vendors" / vendor
    wanted = [folder(vendor) / n for n in ("__init__.py", "api.py", "hook.py", "operators.py", "README.md")]
    wanted += [tests / n for n in ("__init__.py", "test_api.py", "test_hook.py", "test_operators.py")]
    if talks(vendor):
        wanted += [ROOT / f"include/simulators/{vendor}/__init__.py", tests / "test_simulator.py"]
    lacking = [path.relative_to(ROOT).as_posix() for path in wanted if not path.is_file()]
    if not list((tests / "samples").glob("*")):
        lacking.append(f"tests/vendors/{vendor}/samples/*")
    if talks(vendor) and vendor not in SIMULATORS:
        lacking.append(f"a line for {vendor} in include/simulators/app.py")
    if vendor not in TYPES:
        lacking.append(f"a connection type {vendor} in plugins/threat_response/provider_info.py")
    return lacking


@pytest.mark.parametrize("vendor", VENDORS)
def test_nothing_of_a_vendor_is_missing(vendor: str) -> None:
    assert missing(vendor) == []


def test_what_is_missing_is_named() -> None:
    assert "plugins/threat_response/vendors/newcomer/api.py" in missing("newcomer")
    assert "a connection type newcomer in plugins/threat_response/provider_info.py" in missing("newcomer")


def test_every_folder_simulator_and_connection_type_belongs_to_a_vendor_of_the_registry() -> None:
    folders = {path.parent.name for path in (ROOT / "plugins/threat_response/vendors").glob("*/api.py")}
    assert folders == set(VENDORS)
    assert set(TYPES) == set(VENDORS)
    assert set(SIMULATORS) == {vendor for vendor in VENDORS if talks(vendor)}


def test_the_names_in_the_registry_are_those_of_the_operators() -> None:
    """The task id, the ledger's name and the policy's name of a vendor are one name."""
    assert {name: operator.vendor for name, operator in FETCH.items()} == {name: name for name in FETCH}
    assert {name: operator.provider for name, operator in ENRICH.items()} == {name: name for name in ENRICH}
    for operators in (CONTROLS, WATCH, CONFIRM):
        assert {name: operator.control for name, operator in operators.items()} == {name: name for name in operators}
    assert set(CONFIRM) <= set(CONTROLS)
    assert set(REFRESH) <= set(ENRICH)
    assert len(CONTROLS) == sum(map(len, BLOCK.values()))


def test_every_operator_is_of_its_stages_contract() -> None:
    for operators, contract in (
        (FETCH, Fetch),
        (ENRICH, EnrichOperator),
        (CONTROLS, ControlOperator),
        (WATCH, ControlOperator),
        (CONFIRM, ConfirmSensor),
    ):
        assert all(issubclass(operator, contract) for operator in operators.values())
    assert all(operator.gated for operator in CONTROLS.values()), "a block without the never-block gate"


def test_the_policy_has_a_rule_for_every_provider_and_for_no_other() -> None:
    rules = yaml.safe_load((ROOT / "include/config/policy.yaml").read_text("utf-8"))["sources"]
    assert set(rules) == {name for name, operator in ENRICH.items() if operator.has_opinion}


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_connection_type_is_that_of_the_hook(vendor: str) -> None:
    hook = hook_of(vendor)
    assert (hook.vendor, hook.conn_type, hook.default_conn_name) == (vendor, vendor, f"{vendor}_default")
    assert hook.hook_name == TYPES[vendor]["hook-name"]
    assert hook.ping is not VendorHook.ping
    for operator in OPERATORS:
        if operator.__module__.split(".")[2] == vendor and hasattr(operator, "hook_class"):
            assert operator.hook_class is hook


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_form_of_the_connection(vendor: str) -> None:
    form = TYPES[vendor]
    code = "".join(path.read_text("utf-8") for path in folder(vendor).glob("*.py"))
    code += (ROOT / "plugins/threat_response/transport/hook.py").read_text("utf-8")
    readme = (folder(vendor) / "README.md").read_text("utf-8")
    for name, field in form["conn-fields"].items():
        assert field["label"], name
        assert re.search(rf"\b{name}\b", code), f"nothing reads the field {name}"
        if SECRET.search(name) and not name.endswith("_path"):
            assert field["schema"].get("format") == "password", f"{name} is shown in plain"
        if name != "verify":
            assert f"`{name}`" in readme, f"the README does not tell of {name}"
    assert form["ui-field-behaviour"]["placeholders"]["host"].startswith("https://")
    # Airflow 3.3.2's Test button fails for a stored connection without a port.
    assert form["ui-field-behaviour"]["placeholders"]["port"].isdigit()


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_readme_has_the_headings_of_the_first_vendors(vendor: str) -> None:
    text = (folder(vendor) / "README.md").read_text("utf-8")
    lines = text.splitlines()
    assert lines[0].startswith("# ")
    assert [h for h in (heading.format(vendor=vendor) for heading in HEADINGS) if h not in lines] == []
    assert re.search(r"^Grade: (bronze|silver|gold)\b", text, re.M)
    if vendor in WRITERS:
        assert "## Undo by hand" in lines


def test_the_package_that_airflow_looks_for_is_the_one_that_is_installed() -> None:
    """Otherwise discovery raises, and no connection type of ours is there."""
    from importlib.metadata import distribution

    info = get_provider_info()
    (entry,) = [e for e in distribution(info["package-name"]).entry_points if e.group == "apache_airflow_provider"]
    assert entry.load()() == info


def test_airflow_knows_the_connection_types() -> None:
    from airflow.providers_manager import ProvidersManager

    shown = {t.connection_type: t.hook_name for t in ProvidersManager().iter_connection_type_hook_ui_metadata()}
    assert {name: shown.get(name) for name in TYPES} == {name: form["hook-name"] for name, form in TYPES.items()}
