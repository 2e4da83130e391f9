"""A day as large as the measurements want it, made of copies of the demo day (``include/simulators/demo_feed.py``)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from include.simulators.demo_feed import build_demo
from include.simulators.demo_feed.cast import CONFIG_ID

Record = dict[str, Any]
#: What one demo day has at least of readable events, whatever its seed.
LOW_PER_DAY, HIGH_PER_DAY = 300, 30


def build_load(end: datetime, *, findings: int = 1000, high: int = 50) -> dict[str, Record]:
    """
    The seed of every simulator for the day before ``end``: so many events that become a finding, ``high`` of them
    high or critical. Pure, as the demo day is.

    The first copy is the demo day. In each further one the ids differ, the attackers have other addresses and the bad
    domains other names, so that the number of observables grows with the number of findings.

    :param end: a full UTC hour
    """
    low = findings - high
    copies = [_copy(end, n) for n in range(max(1, -(-low // LOW_PER_DAY), -(-high // HIGH_PER_DAY)))]
    events = dict(event for copy in copies for event in _events(copy))
    chosen = {
        *_spread([name for name, is_high in events.items() if is_high], high),
        *_spread([name for name, is_high in events.items() if not is_high], low),
    }
    day = copies[0]
    for copy in copies[1:]:
        for kind in ("incidents", "findings"):
            day["akamai_api_security"][kind] += copy["akamai_api_security"][kind]
        _rows(day).extend(_rows(copy))
        day["abuseipdb"]["addresses"] |= copy["abuseipdb"]["addresses"]
        for name in ("malware-domains.txt", "web-attackers.txt"):
            day["list_feed"]["files"][name] += copy["list_feed"]["files"][name]
    for kind in ("incidents", "findings"):
        day["akamai_api_security"][kind] = [r for r in day["akamai_api_security"][kind] if r["id"] in chosen]
    day["akamai_sia"]["configs"][CONFIG_ID] = [r for r in _rows(day) if _name(r) in chosen]
    return day


def public(record: Record) -> Record:
    """The record as the vendor sends it: underscore keys are for the simulator."""
    return {name: value for name, value in record.items() if not name.startswith("_")}


def _copy(end: datetime, number: int) -> dict[str, Record]:
    demo = {product: data for product, data in build_demo(end, seed=7 + number).items() if product[0] != "_"}
    if number == 0:
        return demo
    text = json.dumps(demo)
    for pattern, replacement in (
        # Defanged or not. IPv4's documentation ranges are too small for more attackers.
        (r"203(\.|\[\.\])0(?:\1)113\1(\d+)", rf"2001:db8:{number:x}::\2"),
        (r"2001:db8:bad:", f"2001:db8:{0xB000 + number:x}:"),
        (r"2001:0DB8:0BAD:", f"2001:0DB8:{0xB000 + number:X}:"),
        (r"(badware|exfil|shop-login-verify)(\.|\[\.\])example", rf"\g<1>{number}\2example"),
    ):
        text = re.sub(pattern, replacement, text)
    varied: dict[str, Record] = json.loads(text)
    return varied


def _events(day: dict[str, Record]) -> Iterator[tuple[str, bool]]:
    """Name of every readable event, and whether it is high."""
    security = day["akamai_api_security"]
    for record in (*security["incidents"], *security["findings"], *_rows(day)):
        if record["_story"] != "broken_record":
            yield _name(record), _severity(record) in ("High", "Critical")


def _rows(day: dict[str, Record]) -> list[Record]:
    rows: list[Record] = day["akamai_sia"]["configs"][CONFIG_ID]
    return rows


def _name(record: Record) -> str:
    """A row's own ``id`` is only its number."""
    half = record.get("query") or record.get("request") or {}
    return str(half.get("uuid") or record["id"])


def _severity(record: Record) -> str:
    return str(record["event"]["severityLevel"] if "event" in record else record["severity"])


def _spread(names: Sequence[str], count: int) -> list[str]:
    """``count`` of them, evenly over the whole."""
    return [names[n * len(names) // count] for n in range(count)]
