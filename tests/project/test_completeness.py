"""A vendor is one folder, one name in the registry, one simulator and one folder of tests: is all of it there?"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import BaseOperator

from include.simulators.app import SIMULATORS
from tests.conftest import ROOT
from tests.stages.incidents.incident_products import PRODUCTS
from threat_response import registry
from threat_response.provider_info import get_provider_info
from threat_response.registry import SERVES, vendors
from threat_response.stages.base import StageOperator
from threat_response.stages.control import Confirm, Control
from threat_response.stages.enrich import Enrich
from threat_response.stages.fetch import Fetch
from threat_response.transport.asking import Provider
from threat_response.transport.form import Secret, vendor_of
from threat_response.transport.hook import VendorHook, hook_class

VENDORS = vendors()
#: Those that change something outside.
WRITERS = sorted(name for stage, names in SERVES.items() if stage not in ("fetch", "enrich") for name in names)
CONTROLS = [name for stage, names in SERVES.items() if stage.startswith("block.") for name in names]
#: What a vendor's ``operators.py`` gives the registry for a stage, and of which kind it is.
GIVES: dict[str, tuple[str, type[BaseOperator]]] = {
    "fetch": ("FETCH", Fetch),
    "block.waf": ("BLOCK", Control),
    "block.edr": ("BLOCK", Control),
    "watch": ("WATCH", Control),
}
HEADINGS = ("## Connection (`{vendor}`)", "## Permissions and quota", "## What happens when")
SECRET = re.compile(r"(secret|token|password)(?!_path)|api_key", re.I)


def folder(vendor: str) -> Path:
    return ROOT / "plugins/threat_response/vendors" / vendor


def missing(vendor: str) -> list[str]:
    """What a vendor lacks, as paths of the project."""
    tests = ROOT / "tests/vendors" / vendor
    files = ["__init__.py", "vendor.py", "api.py", "hook.py", "README.md"]
    part = "cases" if vendor in SERVES["incidents"] else "operators"
    if any(
        vendor in names for stage, names in SERVES.items() if stage != "enrich"
    ):  # one operator serves all enrichers
        files.append(f"{part}.py")
    wanted = [folder(vendor) / name for name in files]
    # A newcomer, or one without a declaration, is taken for one that is asked over HTTP.
    known = vendor in VENDORS and (folder(vendor) / "vendor.py").is_file()
    talks = not known or vendor_of(vendor).has_host
    wanted += [
        tests / "__init__.py",
        *(tests / f"test_{name}" for name in files if name in ("api.py", "hook.py", f"{part}.py")),
    ]
    if vendor in (*CONTROLS, *SERVES["watch"]):  # how the suite of all controls finds it
        wanted.append(tests / "contract.py")
    asked = vendor in SERVES["enrich"] and (not known or vendor_of(vendor).is_remote)
    if vendor not in VENDORS or asked:  # the same of providers
        wanted.append(tests / "case.py")
    if talks:
        wanted += [ROOT / f"include/simulators/{vendor}/__init__.py", tests / "test_simulator.py"]
    lacking = [path.relative_to(ROOT).as_posix() for path in wanted if not path.is_file()]
    if not list((tests / "samples").glob("*")):
        lacking.append(f"tests/vendors/{vendor}/samples/*")
    if talks and vendor not in SIMULATORS:
        lacking.append(f"a line for {vendor} in include/simulators/app.py")
    if vendor not in VENDORS:
        lacking.append(f"a name for {vendor} in plugins/threat_response/registry.py")
    return lacking


@pytest.mark.parametrize("vendor", VENDORS)
def test_nothing_of_a_vendor_is_missing(vendor: str) -> None:
    assert missing(vendor) == []


def test_what_is_missing_is_named() -> None:
    assert "plugins/threat_response/vendors/newcomer/api.py" in missing("newcomer")
    assert "plugins/threat_response/vendors/newcomer/vendor.py" in missing("newcomer")
    assert "a name for newcomer in plugins/threat_response/registry.py" in missing("newcomer")
    assert "a line for newcomer in include/simulators/app.py" in missing("newcomer")


def test_every_folder_and_simulator_belongs_to_a_vendor_of_the_registry() -> None:
    folders = {path.parent.name for path in (ROOT / "plugins/threat_response/vendors").glob("*/*.py")}
    assert folders - {"vendors"} == set(VENDORS)
    assert set(SIMULATORS) == {vendor for vendor in VENDORS if vendor_of(vendor).has_host}


@pytest.mark.parametrize(("stage", "vendor"), [(stage, name) for stage in GIVES for name in SERVES[stage]])
def test_what_serves_a_stage_is_of_its_contract_and_has_the_vendors_name(stage: str, vendor: str) -> None:
    """The task id, the ledger's name and the policy's name of a vendor are one name."""
    attribute, contract = GIVES[stage]
    found: Any = registry.operator(stage, vendor)
    assert found is getattr(importlib.import_module(f"threat_response.vendors.{vendor}.operators"), attribute)
    assert issubclass(found, contract)
    assert found.vendor == vendor
    if stage.startswith("block."):
        assert found.gated, "a block without the never-block gate"


@pytest.mark.parametrize(
    ("stage", "vendor"), [(stage, name) for stage, names in SERVES.items() if stage != "incidents" for name in names]
)
def test_every_vendor_of_a_stage_has_an_operator_that_serves_it(stage: str, vendor: str) -> None:
    """A new stage's as well: the error of the registry names the file and the class that are missing."""
    assert issubclass(registry.operator(stage, vendor), StageOperator)


@pytest.mark.parametrize(
    ("stage", "lacking"),
    [
        ("fetch", "no FETCH in plugins/threat_response/vendors/splunk/operators.py"),
        ("fetch", "nor in plugins/threat_response/stages/fetch.py"),
        ("confirm", "no CONFIRM in plugins/threat_response/vendors/splunk/operators.py"),
        ("no_stage", "no NO_STAGE in plugins/threat_response/vendors/splunk/operators.py"),
        ("no_stage", "nor in plugins/threat_response/stages/no_stage.py"),
    ],
)
def test_a_stage_that_nothing_serves_is_named_with_what_is_missing(stage: str, lacking: str) -> None:
    with pytest.raises(LookupError) as caught:
        registry.operator(stage, "splunk")
    assert str(caught.value).startswith(f"splunk cannot serve {stage}: ")
    assert lacking in str(caught.value)


@pytest.mark.parametrize("vendor", SERVES["enrich"])
def test_an_enricher_is_a_provider_that_one_operator_can_ask(vendor: str) -> None:
    hook, declared = hook_class(vendor), vendor_of(vendor)
    assert issubclass(hook, Provider)
    assert hook.types
    asks = registry.operators("enrich")[vendor](task_id=vendor, case=None)
    assert (type(asks), asks.vendor, asks.conn_id) == (Enrich, vendor, declared.conn_id)
    assert declared.refreshes is (hook.refresh_all is not Provider.refresh_all)
    if not declared.is_remote:
        assert hook.answers is not Provider.answers


def test_there_is_one_incident_system_and_the_contract_suite_runs_over_it() -> None:
    [system] = SERVES["incidents"]
    assert system in PRODUCTS
    assert callable(importlib.import_module(f"threat_response.vendors.{system}.cases").cases)


@pytest.mark.parametrize("vendor", [v for v in VENDORS if v not in {*SERVES["enrich"], *SERVES["incidents"]}])
def test_what_a_vendor_declares_is_what_its_operators_do(vendor: str) -> None:
    operators = importlib.import_module(f"threat_response.vendors.{vendor}.operators")
    declared = vendor_of(vendor)
    assert not declared.refreshes
    assert declared.confirms is hasattr(operators, "CONFIRM")
    if declared.confirms:
        assert vendor in CONTROLS
        sensor = registry.operator("confirm", vendor)
        assert issubclass(sensor, Confirm)
        assert sensor.vendor == vendor


def test_the_policy_has_a_rule_for_every_provider_and_for_no_other() -> None:
    rules = yaml.safe_load((ROOT / "include/config/policy.yaml").read_text("utf-8"))["sources"]
    assert set(rules) == {name for name in SERVES["enrich"] if vendor_of(name).has_opinion}


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_hook_is_of_the_declaration(vendor: str) -> None:
    hook, declared = hook_class(vendor), vendor_of(vendor)
    assert hook.declared is declared
    assert (declared.name, declared.conn_id) == (vendor, f"{vendor}_default")
    assert (hook.vendor, hook.conn_type, hook.default_conn_name) == (vendor, vendor, declared.conn_id)
    assert hook.hook_name == declared.title
    assert hook.ping is not VendorHook.ping


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_fields_of_the_connection(vendor: str) -> None:
    declared = vendor_of(vendor)
    code = "".join(path.read_text("utf-8") for path in folder(vendor).glob("*.py") if path.name != "vendor.py")
    code += "".join(path.read_text("utf-8") for path in (ROOT / "plugins/threat_response/transport").glob("*.py"))
    readme = (folder(vendor) / "README.md").read_text("utf-8")
    for field in declared.fields:
        assert field.label, field.name
        assert re.search(rf"\b{field.name}\b", code), f"nothing reads the field {field.name}"
        if SECRET.search(field.name):
            assert isinstance(field, Secret), f"{field.name} is shown in plain"
        assert f"`{field.name}`" in readme, f"the README does not tell of {field.name}"
    assert declared.host.startswith("https://")


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
    assert {name: shown.get(name) for name in VENDORS} == {name: vendor_of(name).title for name in VENDORS}


def test_listing_the_connection_types_imports_no_hook_and_nothing_heavy() -> None:
    """Every Airflow process does it at its start, perhaps without the project on its path."""
    code = (
        "import sys; from threat_response.provider_info import get_provider_info as info;"
        "print(len(info()['connection-types']), [m for m in sys.modules if m.split('.')[0] in"
        " ('airflow', 'requests', 'pydantic', 'include') or m.endswith(('.hook', '.operators'))])"
    )
    environment = {"PYTHONPATH": str(ROOT / "plugins"), "PATH": ""}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tempfile.gettempdir(), capture_output=True, text=True
    )
    assert (ran.stdout, ran.stderr) == (f"{len(VENDORS)} []\n", "")
