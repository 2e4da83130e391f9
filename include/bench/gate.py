"""Measurement 1d: the never-block gate with every warning list, against a plain scan and the lists' own package."""

from __future__ import annotations

import ipaddress
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from pymispwarninglists import WarningLists as PackageLists

from include.bench.measure import seconds, table, times
from include.demo.place import ROOT
from include.soar.gate.gate import Gate
from include.soar.gate.index_file import DECISIONS, package_lists, read_decisions, shipped
from include.soar.gate.intervals import interval
from include.soar.gate.layers import SPECIAL
from include.soar.gate.rules import NeverBlock, Protected
from include.soar.gate.special import SPECIAL_NAMES, SPECIAL_PURPOSE
from include.soar.model import Observable, ObservableType

NOTHING = Protected(networks=(), domains=())
#: Without rules of our own: the special-purpose layer, and the warning lists.
RULES = NeverBlock(documentation_ranges_are_real=True, own=NOTHING, partners=NOTHING, well_known=NOTHING)

WORDS = ("shop", "login", "mail", "update", "cdn", "api", "data", "pay", "web", "host", "net", "blue")
TOP = ("example", "com", "net", "org", "ru", "xyz", "co.uk", "info")

#: What a task pays before its first decision, in a process of its own.
LOAD = """
import time
started = time.perf_counter()
from datetime import UTC, datetime
from pathlib import Path
from include.soar.gate import index_file
from include.soar.gate.gate import gate_of
from include.soar.policy.file import load_policy
if {fresh}:
    index_file.cache_folder = lambda: None
rules = load_policy([Path("include/config/policy.yaml")]).never_block
gate = gate_of(rules, index_file.shipped(), datetime(2026, 3, 4, tzinfo=UTC))
print(time.perf_counter() - started)
"""


def report(*, asked: int, repeats: int, thorough: bool) -> Iterator[str]:
    """
    :param asked: how many of each kind; at least 10,000 make the numbers steady
    :param thorough: also what takes seconds: making the index anew, and the package's exact search
    """
    yield decisions(asked, repeats)
    yield package(asked, repeats, thorough)


def decisions(asked: int, repeats: int) -> str:
    gate, scan = Gate(RULES, shipped()), plain_scan()
    chance = random.Random(7)  # noqa: S311
    kinds = {
        "IPv4": (_ipv4,),
        "IPv6": (_ipv6,),
        "domains": (_domain,),
        "URLs": (_url,),
        "all of them, mixed": (_ipv4, _ipv6, _domain, _url),
    }
    rows = []
    for kind, makers in kinds.items():
        observables = [make(chance) for _ in range(asked // len(makers)) for make in makers]
        hits = [gate.check(o) for o in observables]
        few = _some_of_each(observables, [hit is not None for hit in hits])
        if [gate.check(o) is not None for o in few] != [scan(o) for o in few]:
            raise RuntimeError(f"{kind}: the gate and the scan do not agree: there is nothing to compare")
        single = len(observables) / seconds(partial(_each, gate.check, observables), repeats)
        slow = len(few) / seconds(partial(_each, scan, few), 1)
        protected = sum(hit is not None for hit in hits)
        rows.append((kind, len(observables), protected, single, slow, times(1 / single, 1 / slow)))
    names = len(shipped().exact) + len(shipped().suffixes)
    return table(
        f"1d. The never-block gate: {len(_networks()):,} networks, {names:,} names",
        ("asked about", "number", "protected", "gate/s", "plain scan/s", "time against scan"),
        rows,
        "Scan: compare with one network or name after the other. Both gave the same answers, on a sample.",
    )


def package(asked: int, repeats: int, thorough: bool) -> str:
    refused = [n for n, d in read_decisions(DECISIONS).items() if d.use == "refuse"]
    lists = [json.loads((package_lists() / name / "list.json").read_bytes()) for name in refused]
    chance = random.Random(11)  # noqa: S311
    # Half of them in a refused network; special-purpose addresses are not the lists' business.
    gate, networks = Gate(RULES, shipped()), [row for row in _networks() if row[0] == 4]
    found = [_ipv4(chance, chance.choice(networks)[1:3]) for _ in range(asked // 2)]
    found += [_ipv4(chance) for _ in range(asked // 2)]
    addresses = [o for o in found if (hit := gate.check(o)) is None or hit.layer != SPECIAL]
    ours = [gate.check(o) for o in addresses]
    protected = sum(hit is not None for hit in ours)
    speed = len(addresses) / seconds(partial(_each, gate.check, addresses), repeats)
    rows: list[Sequence[Any]] = [("ours, from its index", _load(fresh=False), speed, "1 x", protected, protected)]
    if thorough:
        rows.append(("ours, index made anew", _load(fresh=True), speed, "1 x", protected, protected))
    # The slow one by few: it answers for each of the lists in turn.
    for name, slow, few in (
        ("its default", False, addresses),
        ("its slow_search", True, addresses[:: len(addresses) // 40]),
    ):
        if slow and not thorough:
            continue
        started_at = time.perf_counter()
        searched = PackageLists(slow_search=slow, lists=lists)
        loaded = time.perf_counter() - started_at
        answers = [bool(searched.search(o.value)) for o in few]
        expected = [hit is not None for hit in map(gate.check, few)]
        if slow and answers != expected:
            raise RuntimeError("the gate and the package's exact search do not agree: there is nothing to compare")
        theirs = len(few) / seconds(partial(_each, lambda o, s=searched: s.search(o.value), few), 1)
        rows.append(
            (f"pymispwarninglists, {name}", loaded, theirs, times(1 / theirs, 1 / speed), sum(answers), sum(expected))
        )
    return table(
        f"1d. The gate against pymispwarninglists, on the {len(refused)} lists that we refuse: IPv4 addresses",
        ("look-up", "load, s", "addresses/s", "time against ours", "found", "of protected"),
        rows,
        "Load: of ours the whole of a new process up to its gate: Python's imports of it, policy and lists; of the",
        "package the making of its tables alone. Its slow_search is asked about every fortieth address or so.",
    )


def _load(*, fresh: bool) -> float:
    program = LOAD.format(fresh=fresh)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _each(function: Callable[[Observable], object], observables: Sequence[Observable]) -> None:
    for observable in observables:
        function(observable)


def _some_of_each(observables: Sequence[Observable], protected: Sequence[bool], count: int = 5) -> list[Observable]:
    """A scan is slow, so it is asked about few: protected ones and others."""
    some = [[o for o, p in zip(observables, protected, strict=True) if p is wanted][:count] for wanted in (True, False)]
    return [*some[0], *some[1]]


def _networks() -> list[tuple[int, int, int, int]]:
    """Every refused network of the lists, read by itself."""
    found = []
    for name, decided in read_decisions(DECISIONS).items():
        if decided.use == "ignore":
            continue
        listed = json.loads((package_lists() / name / "list.json").read_bytes())
        if listed["type"] == "cidr":
            found += [interval(e) for e in listed["list"] if decided.use == "refuse" or e in decided.refused]
    return found


def plain_scan() -> Callable[[Observable], bool]:
    """The obvious way: compare with one after the other."""
    networks = [*map(interval, SPECIAL_PURPOSE), *_networks()]
    lists = shipped()
    names = list(lists.exact)
    suffixes = [*SPECIAL_NAMES, *lists.suffixes]

    def is_protected(observable: Observable) -> bool:
        host = observable.value
        if observable.type is ObservableType.URL:
            host = host.split("/")[2]
        if observable.is_address:
            address = ipaddress.ip_address(host)
            return any(f == address.version and a <= int(address) <= b for f, a, b, _ in networks)
        return any(host == name for name in names) or any(host == s or host.endswith(f".{s}") for s in suffixes)

    return is_protected


def _ipv4(chance: random.Random, within: tuple[int, int] = (1 << 24, (224 << 24) - 1)) -> Observable:
    return Observable(type=ObservableType.IPV4, value=str(ipaddress.IPv4Address(chance.randint(*within))))


def _ipv6(chance: random.Random) -> Observable:
    within = (0x2001_4860 << 96, (0x2003 << 112) - 1) if chance.random() < 0.1 else (0x2003 << 112, (0x3FFE << 112) - 1)
    while (address := ipaddress.IPv6Address(chance.randint(*within))).sixtofour:
        pass  # What the scan does not know.
    return Observable(type=ObservableType.IPV6, value=str(address))


def _domain(chance: random.Random) -> Observable:
    if chance.random() < 0.02:
        return Observable(type=ObservableType.DOMAIN, value=f"{chance.choice(WORDS)}.microsoft.com")
    name = f"{chance.choice(WORDS)}{chance.randrange(9999)}.{chance.choice(WORDS)}-{chance.randrange(99999)}"
    return Observable(type=ObservableType.DOMAIN, value=f"{name}.{chance.choice(TOP)}")


def _url(chance: random.Random) -> Observable:
    path = f"{chance.choice(WORDS)}/{chance.randrange(9999)}.php?x=1"
    return Observable(type=ObservableType.URL, value=f"https://{_domain(chance).value}/{path}")
