"""A copy of the project, to follow a page of the documentation in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

NOT_COPIED = (".git", ".venv*", ".demo", ".*cache", ".hypothesis", "__pycache__", "*.egg-info", "pictures")
#: Runs a command in the copy: what it printed. A command that fails fails the test with what it printed.
Run = Callable[..., str]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The whole project, with this interpreter where `make` would have put one."""
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(*NOT_COPIED))
    tools = project / ".venv/bin"
    tools.mkdir(parents=True)
    for tool, command in (("python", sys.executable), ("ruff", f"{sys.executable} -m ruff")):
        (tools / tool).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (tools / tool).chmod(0o755)
    for stamp in (".run", ".dev"):  # newer than what they are made of: nothing is installed
        (project / ".venv" / stamp).touch()
    return project


@pytest.fixture
def run(copy: Path, tmp_path: Path) -> Run:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MAKE", "MFLAGS"))
    }
    # Neither is used there, and hypothesis takes its time to load.
    environment |= {"PYTEST_ADDOPTS": "-p no:cacheprovider -p no:hypothesispytest", "TMPDIR": str(tmp_path)}

    def run(*command: str, stdin: str = "") -> str:
        ran = subprocess.run(
            command, cwd=copy, env=environment, input=stdin, capture_output=True, text=True, timeout=300
        )
        assert ran.returncode == 0, " ".join(command) + ran.stdout + ran.stderr
        return ran.stdout

    return run
