"""The name of a process, by which another one on the same machine finds out that it has ended."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


def process_name() -> str:
    """
    This process: ``boot;pid namespace/pid/start``, without ``#``. Empty where the system does not tell (not Linux):
    then nobody finds out that it has ended.
    """
    place, started = _place(), _started(os.getpid())
    return f"{place}/{os.getpid()}/{started}" if place and started else ""


def has_ended(name: str) -> bool:
    """
    Whether the process of this name (:func:`process_name`) is known to have ended. False for every doubt: another
    machine's, another container's, one that may not be looked at, a name that is none.
    """
    place, _, rest = name.partition("/")
    number, _, started = rest.partition("/")
    if not place or place != _place() or not number.isascii() or not number.isdigit():
        return False
    pid = int(number)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        # Another user's, which lives, or no number of a process.
        return False
    return _started(pid) not in (None, started)


def _place() -> str:
    """
    Where a process's number means something. Not the machine's name: two containers may share one, and their numbers
    are not the same processes.
    """
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot};{os.readlink(PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """
    When it began, in ticks since the machine's start, which no change of the clock moves; ``ended`` for one that only
    waits for its parent to take note; None where it may not be read.
    """
    try:
        # The program's name stands in brackets and may hold anything.
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return "ended" if fields[0] in ("Z", "X") else fields[19]
    except (OSError, IndexError):
        return None
