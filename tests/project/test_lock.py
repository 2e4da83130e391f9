"""The lock: what the tests run on is what is locked, and with it Airflow's Celery executor can be imported."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import ROOT


def requirements(name: str) -> dict[str, Requirement]:
    lines = (line.split("#", 1)[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines())
    found = [Requirement(line.rstrip("\\ ")) for line in lines if line and not line.startswith("-")]
    return {canonicalize_name(r.name): r for r in found if r.marker is None or r.marker.evaluate()}


def test_what_runs_is_what_is_locked() -> None:
    other = {}
    for name, requirement in requirements("requirements.txt").items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "nothing"
        if installed == "nothing" or not requirement.specifier.contains(installed, prereleases=True):
            other[name] = f"{requirement.specifier} is locked, {installed} is installed"
    assert other == {}


def test_every_line_of_the_lock_is_one_version() -> None:
    loose = [str(r) for r in requirements("requirements.txt").values() if {s.operator for s in r.specifier} != {"=="}]
    assert loose == []


def test_what_was_chosen_is_in_the_lock() -> None:
    locked = requirements("requirements.txt")
    assert set(requirements("requirements.in")) - set(locked) == set()


def test_celery_is_one_that_the_executor_can_use() -> None:
    """A free resolve takes 5.7, with which the executor's module cannot be imported (provider 3.26.0)."""
    assert not requirements("requirements.in")["celery"].specifier.contains("5.7.0")
    assert Version(version("celery")) < Version("5.7")


def test_what_a_deployment_imports_can_be_imported() -> None:
    """In a process of its own: two of these change what is imported after them."""
    modules = [
        "akamai.edgegrid",
        "psycopg2",
        "airflow.providers.celery.executors.celery_executor",
        "airflow.providers.common.io.xcom.backend",
        "airflow.providers.standard.operators.hitl",
    ]
    code = """
import importlib, sys, traceback
for module in sys.argv[1:]:
    try:
        importlib.import_module(module)
    except Exception:
        print(module, traceback.format_exc(), file=sys.stderr)
    else:
        print("imported", module)
"""
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, timeout=300)
    # Airflow says a few things of its own meanwhile.
    assert re.findall(r"^imported (\S+)$", done.stdout, re.M) == modules, done.stderr[-2000:]
