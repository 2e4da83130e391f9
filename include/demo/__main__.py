"""
``python -m include.demo up | down``: what ``make demo`` and ``make demo-down`` run.

``python -m include.demo run make explain OBSERVABLE=…`` runs a command in the demo's environment.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from include.demo import processes, story
from include.demo.place import ROOT, Place, free_port, make_secrets


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m include.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["up", "down", "run"])
    parser.add_argument("words", nargs=argparse.REMAINDER, help="of the command to run")
    parser.add_argument("--home", type=Path, default=ROOT / ".demo", help="folder of all that belongs to the demo")
    parser.add_argument("--api-port", type=int, default=8080)
    parser.add_argument("--sim-port", type=int, default=8081)
    options = parser.parse_args()
    home = options.home.resolve()
    if options.command == "down":
        ended = processes.stop(home)
        print(f"Ended: {', '.join(ended)}" if ended else "Nothing of the demo was running")
        return 0

    if options.command == "run":
        known = Place.load(home)
        if known is None:
            print("There is no demo: `make demo` makes one", file=sys.stderr)
            return 2
        return subprocess.run(options.words, env=known.environment(), check=False).returncode

    processes.stop(home)
    shutil.rmtree(home, ignore_errors=True)
    place = Place(home, free_port(options.api_port), free_port(options.sim_port))
    place.save()
    try:
        return story.run(place, make_secrets())
    except (processes.DemoError, story.DemoFailed) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        processes.stop(home)
        return 130


if __name__ == "__main__":
    sys.exit(main())
