"""
One provider at its simulator, as the suites of all providers need it. Each describes itself once, in the ``case.py`` of
its folder of tests: ``CASES``, one for each way in which it is asked.

Two suites run over them: tests/vendors/test_provider_hooks.py asks each hook, test_every_provider.py has stage 3 ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import pytest

from include.soar.model import Observable, ObservableType
from tests.soar.examples import address, domain
from tests.stages.controls import PROTECTED
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.registry import SERVES
from threat_response.transport.form import vendor_of
from threat_response.transport.hook import hook_class

EVIL, CLEAN, SIX = address("203.0.113.7"), address("203.0.113.9"), address("2001:db8::1")
NAME = domain("evil.example")
URL = Observable(type=ObservableType.URL, value="http://evil.example/a")
MAIL = Observable(type=ObservableType.EMAIL, value="a@evil.example")
ASN = Observable(type=ObservableType.ASN, value="AS64496")
MD5, SHA1, SHA256, SHA512 = (
    Observable(type=ObservableType.FILE, value=value) for value in ("a1" * 16, "a2" * 20, "a3" * 32, "a4" * 64)
)
#: Every kind of value. No provider is asked about the last two: one is ours, one is private.
EVERYTHING = (
    *(EVIL, CLEAN, SIX, NAME, URL, MAIL, ASN, MD5, SHA1, SHA256, SHA512),
    *(address(PROTECTED), address("10.0.0.1")),
)
NETWORKS_IPV4, NETWORKS = ["203.0.113.0/24"], ["203.0.113.0/24", "2001:db8::/32"]


#: What *Test connection* names: (fault of the simulator, its options, cause).
Causes = tuple[tuple[str, dict[str, Any], str], ...]
WRONG_KEY, NO_GRANT, WRONG_HOST = "Wrong key", "Missing grant", "Wrong host"
#: A page with 403 is a gateway\'s, and says nothing about the key.
A_GATEWAY = "A proxy or gateway answered"
KEY_CAUSES: Causes = (("status", {"status": 401}, WRONG_KEY), ("status", {"status": 403}, NO_GRANT))
#: Where the vendor itself says 404, it is about the path.
PATH_CAUSES: Causes = (("status", {"status": 404}, WRONG_HOST),)
#: abuse.ch answers 403 to a key that it does not know. A page with 403 is a gateway's, and says nothing about the key.
ABUSE_CH_CAUSES: Causes = (
    ("status", {"status": 401}, WRONG_KEY),
    ("status", {"status": 403}, WRONG_KEY),
    ("html", {"status": 403}, A_GATEWAY),
    ("merge", {"patch": {"query_status": "unknown_auth_key"}}, WRONG_KEY),
    ("merge", {"patch": {"query_status": "odd"}}, WRONG_HOST),
    *PATH_CAUSES,
)


@dataclass(frozen=True)
class Case:
    """
    One provider, as its simulator is to answer.

    :param said: the score of each value that it is to be asked about, badness or 0
    :param asked: the values that a call in the simulator's log asked about
    :param refuse: a fault by which it refuses the value of ``NAME`` or of ``CLEAN``, and that value
    :param odd: further answers of its own that say nothing, as patches
    :param ask: one question about ``EVIL`` to its hook
    :param causes: its answers to a wrong key, a missing grant and a wrong host, and to what else has a cause of its own
    :param needs_a_key: False where it answers without one
    :param retry_after: the header that says for how many seconds a quota is spent
    :param knobs: of its simulator
    :param extra: fields of the connection
    :param plan: what tells this case from the vendor's others
    """

    seed: dict[str, Any]
    said: Mapping[Observable, int]
    asked: Callable[[dict[str, Any]], Sequence[str]]
    refuse: tuple[Observable, str, dict[str, Any]]
    odd: tuple[dict[str, Any], ...] = ()
    ask: Callable[[Any], Any] = lambda hook: hook.lookup(EVIL)
    causes: Causes = KEY_CAUSES + PATH_CAUSES
    needs_a_key: bool = True
    retry_after: str = "Retry-After"
    knobs: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    plan: str = ""


def cases_of(name: str) -> tuple[Case, ...]:
    cases: tuple[Case, ...] = import_module(f"tests.vendors.{name}.case").CASES
    return cases


def _id(name: str, case: Case) -> str:
    return f"{name}-{case.plan}" if case.plan else name


#: Every provider that is asked over HTTP, in each way in which it is asked: its name and its case.
EVERY = [(name, case) for name in SERVES["enrich"] if vendor_of(name).is_remote for case in cases_of(name)]
CASES = [pytest.param(one, id=_id(*one)) for one in EVERY]
#: The same for each answer of theirs that says nothing.
ODD = [
    pytest.param(name, case, odd, id=f"{_id(name, case)}-{n}") for name, case in EVERY for n, odd in enumerate(case.odd)
]


class Provider:
    """A provider at its simulator, which is set up and connected as its case says."""

    def __init__(self, name: str, case: Case, sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self.case, self.sim, self.monkeypatch = name, case, sim, monkeypatch
        self.key = str(sim.world.simulators[name].settings["api_key"])
        sim.configure(name, **case.knobs)
        sim.seed(name, case.seed)
        self.connect(self.key)

    def connect(self, key: str | None) -> None:
        connect(self.monkeypatch, f"{self.name}_default", self.name, self.sim, password=key, **self.case.extra)

    def hook(self, **more: Any) -> Any:
        return hook_class(self.name)(**more)

    def ask(self, hook: Any) -> Any:
        return self.case.ask(hook)

    def fault(self, kind: str, **options: Any) -> None:
        self.sim.fault(self.name, kind, **options)

    def calls(self) -> list[dict[str, Any]]:
        return self.sim.calls(self.name)

    def lose_patience(self) -> None:
        """Wait for less than the simulator's delay."""
        self.monkeypatch.setattr(f"threat_response.vendors.{self.name}.api.TIMEOUT_SECONDS", 0.3)
