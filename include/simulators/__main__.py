"""Serve every vendor simulator: ``python -m include.simulators --port 8081 --seed demo``.

The control plane under ``/_sim`` has no authentication, so only loopback is served; ``--allow-remote`` is for a
container, whose published port decides who may come in. SIGTERM and Ctrl-C end it with status 0.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import HTTPException

from include.simulators.app import create_app
from include.simulators.demo_feed import build_demo, describe
from include.simulators.kit import World, parse_instant


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m include.simulators", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--allow-remote", action="store_true", help="serve another host than loopback")
    parser.add_argument("--seed", choices=("demo", "none"), default="none")
    parser.add_argument("--day-end", help="ISO 8601: where the demo day ends (default: the last full UTC hour)")
    parser.add_argument("--secrets", type=Path, help="JSON file {product: {knob: value}}; read once, never shown")
    options = parser.parse_args(arguments)
    if not options.allow_remote and not _is_loopback(options.host):
        parser.error(f"{options.host} is not a loopback address; add --allow-remote if that is meant")

    app = create_app()
    try:
        if options.secrets:
            _configure(app.world, options.secrets)
        if options.seed == "demo":
            demo = build_demo(_day_end(options.day_end))
            for product, data in demo.items():
                if not product.startswith("_"):
                    app.world.simulators[product].seed(data)
            sys.stdout.write(describe(demo))
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        parser.error(str(error))

    # uvicorn stops on SIGTERM and then raises it again, for whoever handled it before: that is us, with status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", http="h11", timeout_graceful_shutdown=2)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _day_end(text: str | None) -> datetime:
    if text:
        return parse_instant(text)
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def _configure(world: World, path: Path) -> None:
    """Turn the knobs. No message repeats a value, nor the text around a syntax error."""
    try:
        secrets: Any = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON (line {error.lineno})") from None
    if not isinstance(secrets, dict) or not all(isinstance(knobs, dict) for knobs in secrets.values()):
        raise ValueError(f"{path}: {{product: {{knob: value}}}} expected")
    for product, knobs in secrets.items():
        if product not in world.simulators:
            raise ValueError(f"{path}: there is no simulator {product!r}")
        try:
            world.simulators[product].configure(knobs)
        except HTTPException as error:
            raise ValueError(f"{path}: {error.detail}") from None


if __name__ == "__main__":
    main()
