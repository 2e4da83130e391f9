"""
``python -m include.demo up | down``: what ``make demo`` and ``make demo-down`` run.

``python -m include.demo status`` says which of its processes run, and the address of Airflow's UI.
``python -m include.demo run make explain OBSERVABLE=…`` runs a command in the demo's environment.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from include.demo import processes, story
from include.demo.place import ROOT, Place, free_port, make_secrets


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m include.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["up", "down", "status", "run"])
    parser.add_argument("words", nargs=argparse.REMAINDER, help="of the command to run")
    parser.add_argument("--home", type=Path, default=ROOT / ".demo", help="the folder with everything of the demo")
    parser.add_argument("--api-port", type=int, default=8080)
    parser.add_argument("--sim-port", type=int, default=8081)
    options = parser.parse_args()
    home = options.home.resolve()
    if options.command == "down":
        ended = processes.stop(home)
        print(f"Ended: {', '.join(ended)}" if ended else "Nothing of the demo was running")
        return 0

    if options.command == "status":
        return status(home)

    if options.command == "run":
        known = Place.load(home)
        if known is None:
            print("There is no demo: `make demo` makes one", file=sys.stderr)
            return 2
        return subprocess.run(options.words, env=known.environment(), check=False).returncode

    with _alone(home) as alone:
        if not alone:
            print("Another `make demo` is at work here: wait for it, or end it with Ctrl-C", file=sys.stderr)
            return 2
        return _up(home, options.api_port, options.sim_port)


@contextmanager
def _alone(home: Path) -> Iterator[bool]:
    """Whether nobody else makes the demo of this folder. Two at once would delete each other's files."""
    with (Path(tempfile.gettempdir()) / f"demo-{hashlib.sha256(str(home).encode()).hexdigest()[:16]}.lock").open(
        "w"
    ) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _up(home: Path, api_port: int, sim_port: int) -> int:
    processes.stop(home)
    shutil.rmtree(home, ignore_errors=True)
    place = Place(home, free_port(api_port), free_port(sim_port))
    place.save()
    try:
        return story.run(place, make_secrets())
    except (processes.DemoError, story.DemoFailed) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        processes.stop(home)
        return 130


def status(home: Path) -> int:
    """Print which processes run, and where. 0: all of them do; 3, as ``systemctl status`` says it: not all."""
    place, running = Place.load(home), processes.running(home)
    if place is None or not any(running.values()):
        print("The demo is not running: `make demo` starts it")
        return 3
    for name, alive in running.items():
        print(f"{name}: {'running' if alive else 'ended'}")
    print(f"Airflow's UI: {place.ui} (user admin, password in {place.password_file})")
    print(f"Simulators: {place.simulators}")
    return 0 if all(running.values()) else 3


if __name__ == "__main__":
    sys.exit(main())
