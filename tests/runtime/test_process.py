"""That a process has ended is said only where it is known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from threat_response.runtime import process
from threat_response.runtime.process import has_ended, process_name

pytestmark = pytest.mark.skipif(not process_name(), reason="this system has no /proc: a lease is waited for here")


def _child(code: str) -> subprocess.Popen[str]:
    code = f"from threat_response.runtime.process import process_name; print(process_name(), flush=True); {code}"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )


def _name_of(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_process_has_ended_once_it_was_killed() -> None:
    with _child("input()") as child:
        name = _name_of(child)
        assert not has_ended(name)
        child.kill()
        # Killed and not yet reaped: it writes nothing any more.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(name)
        child.wait()
        assert has_ended(name)


def test_a_number_that_another_process_has_now() -> None:
    place, pid, _ = process_name().split("/")
    assert not has_ended(process_name())
    assert has_ended(f"{place}/{pid}/1")


@pytest.mark.parametrize("change", ["boot", "namespace"])
def test_of_another_machine_or_container_nobody_knows(change: str) -> None:
    boot, namespace = process_name().split("/")[0].split(";")
    other = {"boot": f"0-{boot};{namespace}", "namespace": f"{boot};pid:[1]"}[change]
    assert not has_ended(f"{other}/999999999/1")


def test_one_that_may_not_be_looked_at_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    place, pid, _ = process_name().split("/")

    def refuse(number: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not has_ended(f"{place}/{pid}/1")


def test_a_hidden_one_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """``hidepid``: its number may be asked for, its entry not be read."""
    name = process_name()
    monkeypatch.setattr(process, "_started", lambda pid: None)
    assert not has_ended(name)


@pytest.mark.parametrize(
    "name", ["", "x", "x/1", "/1/1", "{place}/x/1", "{place}//", "{place}/-1/1", "{place}/9" + "9" * 30]
)
def test_what_is_no_name(name: str) -> None:
    assert not has_ended(name.format(place=process_name().split("/")[0]))


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = process_name()
    monkeypatch.setattr(process, "PROC", tmp_path)
    assert process_name() == ""
    assert not has_ended(name.rpartition("/")[0] + "/1")
