"""Every enrichment provider that there is a simulator of, connected to it; and what holds for each that is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.demo.place import ROOT
from include.simulators.app import SIMULATORS
from include.soar.model import Observable, ObservableType
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.registry import SERVES
from threat_response.transport.hook import VendorHook, hook_class

PROVIDERS = [name for name in SERVES["enrich"] if name in SIMULATORS]
POLICIES = (ROOT / "include/config/policy.yaml", ROOT / "include/config/policy.demo.yaml")
PUBLIC_IPV4 = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"]
PUBLIC = [*PUBLIC_IPV4, "2001:db8::/32"]
LISTS = "spamhaus-drop drop /feeds/drop_v4.json 100|malware-domains plain /feeds/malware-domains.txt 100"


def connect_providers(monkeypatch: pytest.MonkeyPatch, sim: SimServer) -> None:
    for name in PROVIDERS:
        knobs = sim.world.simulators[name].knobs
        password, login, extra = knobs.get("api_key"), None, {}
        if name == "taxii":
            login, password = knobs["username"], knobs["password"]
        if name == "list_feed":
            extra = {"lists": LISTS}
        hook = hook_class(name)
        connect(monkeypatch, hook.default_conn_name, hook.conn_type, sim, login=login, password=password, **extra)


def use_policy(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, providers: Sequence[str] = PROVIDERS, **enrichment: Any
) -> None:
    """The demo's policy with every provider, and these fields of ``enrichment``."""
    path = folder / "every-provider.yaml"
    path.write_text(yaml.safe_dump({"enrichment": {"providers": list(providers), **enrichment}}))
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", ":".join(map(str, (*POLICIES, path))))
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(folder / "home"))


@dataclass(frozen=True)
class Asked:
    """A provider that is asked about values over HTTP, with one key: what tests/vendors/test_every_provider.py needs.

    ``ask`` asks its hook one question. ``refusals`` are (fault, options, cause that *Test connection* names) for
    answers that mean something of its own at this vendor; ``retry_after`` is the header that says how long a quota is
    spent.
    """

    product: str
    ask: Callable[[Any], Any]
    refusals: Sequence[tuple[str, dict[str, Any], str]]
    seed: dict[str, Any] = field(default_factory=dict)
    #: Fields of the connection.
    extra: dict[str, Any] = field(default_factory=dict)
    #: Knobs of the simulator.
    knobs: dict[str, Any] = field(default_factory=dict)
    needs_a_key: bool = True
    retry_after: str = "Retry-After"

    @property
    def key(self) -> str:
        return str(simulator(self.product).settings["api_key"])

    def connect(self, monkeypatch: pytest.MonkeyPatch, sim: SimServer, key: str | None, **more: Any) -> Any:
        """Its hook, with this key."""
        found = self.hook_class
        connect(monkeypatch, found.default_conn_name, found.conn_type, sim, password=key, **self.extra)
        return found(**more)

    def serve(self, sim: SimServer) -> None:
        sim.seed(self.product, self.seed)
        sim.configure(self.product, **self.knobs)

    @property
    def hook_class(self) -> Any:
        module = import_module(f"threat_response.vendors.{self.product}.hook")
        own = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
        (found,) = [c for c in own if issubclass(c, VendorHook)]
        return found

    def lose_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wait for less than the simulator's delay."""
        monkeypatch.setattr(f"threat_response.vendors.{self.product}.api.TIMEOUT_SECONDS", 0.3)


def simulator(product: str) -> Any:
    return getattr(import_module(f"include.simulators.{product}"), SIMULATORS[product])


EVIL = Observable(type=ObservableType.IPV4, value="203.0.113.7")
WRONG_KEY, NO_GRANT, WRONG_HOST = "Wrong key", "Missing grant", "Wrong host"
A_GATEWAY = "A proxy or gateway answered"
_KEY = (("status", {"status": 401}, WRONG_KEY), ("status", {"status": 403}, NO_GRANT))
#: Where the vendor itself says 404, it is about the path.
_PATH = ("status", {"status": 404}, WRONG_HOST)
_PLAIN = (*_KEY, _PATH)
#: abuse.ch answers 403 to a key that it does not know. A page with 403 is a gateway's, and says nothing about the key.
_ABUSE_CH = (
    ("status", {"status": 401}, WRONG_KEY),
    ("status", {"status": 403}, WRONG_KEY),
    ("html", {"status": 403}, A_GATEWAY),
    ("merge", {"patch": {"query_status": "unknown_auth_key"}}, WRONG_KEY),
    ("merge", {"patch": {"query_status": "odd"}}, WRONG_HOST),
    _PATH,
)
ASKED = (
    Asked("abuseipdb", lambda hook: hook.check(EVIL), _PLAIN),
    Asked(
        "virustotal",
        lambda hook: hook.lookup(EVIL),
        _KEY,  # its 404 is about the value
        {"ip_addresses": {EVIL.value: {"last_analysis_stats": {"malicious": 8}}}},
        knobs={"plan": "premium"},
    ),
    Asked(
        "greynoise",
        lambda hook: hook.lookup(EVIL),
        _PLAIN,
        {"public_networks": PUBLIC_IPV4},
        needs_a_key=False,  # the community lookup
    ),
    Asked(
        "greynoise",
        lambda hook: hook.lookup_many([EVIL]),
        _PLAIN,
        {"public_networks": PUBLIC_IPV4},
        extra={"plan": "paid"},
        knobs={"plan": "paid"},
    ),
    Asked(
        "alienvault_otx",
        lambda hook: hook.lookup(EVIL),
        (("status", {"status": 403}, WRONG_KEY), ("html", {"status": 403}, A_GATEWAY), _PATH),
        {"public_networks": PUBLIC},
    ),
    Asked("urlhaus", lambda hook: hook.lookup(EVIL), _ABUSE_CH),
    Asked("threatfox", lambda hook: hook.lookup(EVIL), _ABUSE_CH),
    Asked(
        "misp",
        lambda hook: hook.search([EVIL]),
        (
            ("status", {"status": 403}, WRONG_KEY),
            ("status", {"status": 403, "detail": "You do not have permission to use this functionality."}, NO_GRANT),
            ("status", {"status": 405}, WRONG_HOST),
            _PATH,
        ),
        retry_after="X-Rate-Limit-Reset",
    ),
)
