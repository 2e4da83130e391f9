"""``python -m include.demo``: what it documents, it knows; and ``status`` tells the truth."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from include.demo import __main__ as command
from include.demo import processes
from include.demo.place import Place


@pytest.fixture
def started(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A demo of one process, written down as the demo writes down its own."""
    Place(tmp_path, 18080, 18081).save()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    write_down(tmp_path, "scheduler", process.pid, psutil.Process(process.pid).create_time())
    yield process
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


def write_down(home: Path, name: str, pid: int, create_time: float) -> None:
    (home / f"{name}.pid").write_text(json.dumps({"pid": pid, "create_time": create_time}))


def demo(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["demo", *words])
    return command.main()


def test_every_documented_command_is_known(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    documented = re.findall(r"``python -m include\.demo ([^`]+)``", command.__doc__ or "")
    named = {word for line in documented for word in (line.split(" | ") if "|" in line else line.split()[:1])}
    with pytest.raises(SystemExit, match="0"):
        demo(monkeypatch, "--help")
    usage = re.search(r"\{([a-z,]+)\}", capsys.readouterr().out)
    assert usage
    assert named == set(usage[1].split(","))


def test_status_names_what_runs_and_the_address_of_the_ui(
    started: subprocess.Popen[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert demo(monkeypatch, "--home", str(tmp_path), "status") == 0
    said = capsys.readouterr().out
    assert "scheduler: running" in said
    assert "http://127.0.0.1:18080" in said


def test_a_process_that_ended_is_told(
    started: subprocess.Popen[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Its id was used again by another process, which began at another time.
    write_down(tmp_path, "triggerer", started.pid, psutil.Process(started.pid).create_time() - 3600)
    assert demo(monkeypatch, "--home", str(tmp_path), "status") == 3
    assert "triggerer: ended" in capsys.readouterr().out


def test_down_ends_what_was_started_and_nothing_runs_then(
    started: subprocess.Popen[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert processes.running(tmp_path) == {"scheduler": True}
    assert demo(monkeypatch, "--home", str(tmp_path), "down") == 0
    started.wait(timeout=300)  # for ever, if it still ran
    assert demo(monkeypatch, "--home", str(tmp_path), "status") == 3
    assert "not running" in capsys.readouterr().out


def test_without_a_demo_there_is_nothing_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo(monkeypatch, "--home", str(tmp_path / "none"), "status") == 3
    assert "make demo" in capsys.readouterr().out


def test_a_second_demo_of_the_same_folder_is_refused_and_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    kept.touch()
    with command._alone(tmp_path) as alone:
        assert alone
        assert demo(monkeypatch, "--home", str(tmp_path), "up") == 2
    assert "at work here" in capsys.readouterr().err
    assert kept.exists()
    with command._alone(tmp_path) as alone:
        assert alone
