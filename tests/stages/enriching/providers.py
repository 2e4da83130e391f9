"""Every enrichment provider that there is a simulator of, connected to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.demo.place import ROOT
from include.simulators.app import SIMULATORS
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.registry import SERVES
from threat_response.transport.hook import hook_class

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
