"""What keeps the layers apart can fail: each contract of ``lint-imports``, and each rule for the pure rooms."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.project.source import files, name, tree

#: For each contract, a file and an import in it that the contract forbids.
FORBIDDEN = {
    "The wings: configuration, run time, transport, stages, vendors, registry, groups": [
        ("plugins/threat_response/stages/decide.py", "from threat_response.vendors.splunk import hook"),
        ("plugins/threat_response/runtime/run.py", "from threat_response.transport import copies"),
        ("plugins/threat_response/drawer.py", "import json"),  # a module without a place
    ],
    "The core's rooms, in the order in which an address travels": [
        ("include/soar/gate/gate.py", "from include.soar.judge import verdict"),
        ("include/soar/extract/names.py", "from include.soar.policy import rules"),
        ("include/soar/drawer.py", "import json"),
    ],
    "No circle between the rooms, nor inside of one": [
        ("include/soar/incident/views.py", "from include.soar.incident import gather"),
        ("plugins/threat_response/transport/form.py", "from threat_response.transport import hook"),
    ],
    "A vendor never imports another": [
        ("plugins/threat_response/vendors/urlhaus/api.py", "from threat_response.vendors.threatfox import api"),
    ],
    "The core stands alone": [
        ("include/soar/ledger/database.py", "from include.demo import place"),
        ("include/soar/judge/verdict.py", "from threat_response.runtime import settings"),
    ],
    "The core but the ledger is pure": [
        ("include/soar/judge/verdict.py", "import time"),
        ("include/soar/vendor/wire.py", "import requests"),
        ("include/soar/window.py", "import os"),
        ("include/soar/model/base.py", "from sqlalchemy.orm import Session"),
    ],
    "What a vendor's api.py and vendor.py say is pure": [
        ("plugins/threat_response/vendors/misp/api.py", "import logging"),
        ("plugins/threat_response/vendors/splunk/vendor.py", "from airflow.sdk import Connection"),
        ("plugins/threat_response/vendors/splunk/vendor.py", "from threat_response.vendors.splunk import hook"),
        ("plugins/threat_response/vendors/taxii/pattern.py", "import random"),  # by way of api.py
    ],
    "An api.py stands on the core alone": [
        ("plugins/threat_response/vendors/misp/api.py", "from threat_response.transport import batches"),
    ],
    "A hook knows no operator and no stage": [
        ("plugins/threat_response/vendors/splunk/hook.py", "from threat_response.vendors.splunk import operators"),
        ("plugins/threat_response/vendors/misp/hook.py", "from threat_response.stages import base"),
    ],
    "A simulator shares no code with the clients": [
        ("include/simulators/edgegrid.py", "from include.soar.model import digest"),
        ("include/simulators/edgegrid.py", "from threat_response.transport import edgegrid"),
    ],
    "Production imports no test, simulator, demo or benchmark": [
        ("plugins/threat_response/registry.py", "from include.simulators import app"),
        ("include/ops/explain.py", "import pytest"),
        ("dags/api_threat_response.py", "from tests import support"),
    ],
    "A run needs no operator's command": [
        ("plugins/threat_response/stages/decide.py", "from include.ops import explain"),
    ],
}
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]

#: A pure room takes no file, nor asks whether there is one. ruff cannot tell what a method is called on.
FILE_USES = {
    *("open", "stat", "exists", "is_file", "is_dir", "mkdir", "unlink", "touch"),
    *("read_text", "read_bytes", "write_text", "write_bytes", "glob", "rglob", "iterdir"),
}
FILE_READERS = {"include/soar/gate/index_file.py", "include/soar/policy/file.py"}
DECLARED = [p for p in files("plugins/threat_response/vendors") if p.name in ("api.py", "vendor.py")]
PURE = [p for p in files("include/soar") if "ledger" not in p.parts] + DECLARED


def lint_imports(root: Path) -> str:
    found = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": f"{root}:{root / 'plugins'}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    return found.stdout + found.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code and its contracts alone, to be spoiled."""
    root = tmp_path_factory.mktemp("layers")
    for folder in ("include", "plugins", "dags"):
        for path in files(folder):
            (root / name(path)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / name(path))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


@contextmanager
def spoiled(path: Path, line: str) -> Iterator[None]:
    before = path.read_bytes() if path.exists() else None
    path.write_bytes((before or b"") + f"\n{line}\n".encode())
    yield
    if before is None:
        path.unlink()
    else:
        path.write_bytes(before)


def test_every_contract_is_kept_here(copy: Path) -> None:
    printed = lint_imports(copy)
    assert f"{len(CONTRACTS)} kept, 0 broken" in printed, printed


def test_every_contract_has_its_proof() -> None:
    assert [contract["name"] for contract in CONTRACTS] == list(FORBIDDEN)


@pytest.mark.parametrize(
    ("contract", "place", "line"),
    [(contract, place, line) for contract, ones in FORBIDDEN.items() for place, line in ones],
    ids=lambda text: text.replace(" ", "_"),
)
def test_a_forbidden_import_breaks_its_contract(copy: Path, contract: str, place: str, line: str) -> None:
    with spoiled(copy / place, line):
        printed = lint_imports(copy)
    results = dict(row.rsplit(maxsplit=1) for row in printed.splitlines() if row.endswith(("KEPT", "BROKEN")))
    assert results.get(contract) == "BROKEN", printed


def test_the_contract_of_purity_names_every_room_but_the_ledger() -> None:
    [contract] = [c for c in CONTRACTS if c["name"] == "The core but the ledger is pure"]
    rooms = {p.stem for p in (ROOT / "include/soar").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert {m.removeprefix("include.soar.") for m in contract["source_modules"]} == rooms - {"__init__", "ledger"}


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("include/soar/judge/verdict.py", "from datetime import datetime as d; NOW = d.now()"),
        ("include/soar/window.py", "from uuid import uuid4"),
        ("plugins/threat_response/vendors/misp/api.py", "import urllib.request"),
        ("plugins/threat_response/vendors/splunk/vendor.py", "import tempfile"),
    ],
)
def test_a_clock_chance_or_a_client_in_a_pure_room_is_found(copy: Path, place: str, line: str) -> None:
    with spoiled(copy / place, line):
        printed = ruff(copy, place)
    assert "TID251" in printed
    assert "TID251" not in ruff(copy, place)


def ruff(root: Path, place: str) -> str:
    command = [str(Path(sys.executable).parent / "ruff"), "check", "--no-cache", "--output-format=concise", place]
    return subprocess.run(command, cwd=root, capture_output=True, text=True).stdout


def test_the_walk_finds_what_it_is_about() -> None:
    assert {"observable.py", "wire.py", "rules.py", "api.py", "vendor.py"} <= {p.name for p in PURE}


def test_only_two_pure_modules_touch_files() -> None:
    """They hand what they read to the others, which are the same on every machine."""
    assert {name(path) for path in PURE if names_used(path) & FILE_USES} == FILE_READERS


def names_used(path: Path) -> set[str]:
    nodes = list(ast.walk(tree(path)))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return attributes | {node.id for node in nodes if isinstance(node, ast.Name)}
