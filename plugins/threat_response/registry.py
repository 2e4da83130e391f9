"""Which vendor serves which stage: one name each. The DAG, the docs and the completeness test follow from here.

Reading this file imports nothing of any vendor: what a vendor is stands in its ``vendor.py``, and what serves a stage
is taken from its ``operators.py`` when somebody asks for it. An enricher needs none: one operator serves them all. A
vendor whose connection is absent is skipped, so a name here obliges nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from importlib import import_module
from typing import Any

from threat_response.transport.form import vendor_of

#: Stage -> vendors, each the name of its folder, its connection type and its task. A block is made at a place.
SERVES: dict[str, tuple[str, ...]] = {
    "fetch": (
        "akamai_api_security",
        "akamai_sia",
    ),
    "enrich": (
        "abuseipdb",
        "virustotal",
        "greynoise",
        "list_feed",
        "taxii",
        "misp",
        "alienvault_otx",
        "urlhaus",
        "threatfox",
        "offline_asn",
    ),
    "incidents": ("cyware_respond",),  # one: its cases.py, see docs/add-an-incident-system.md
    "block.waf": ("akamai_client_lists",),
    "block.edr": ("crowdstrike_falcon",),
    "watch": ("splunk",),
}


def vendors() -> list[str]:
    """Every vendor, in the order of the stages."""
    return list(dict.fromkeys(name for names in SERVES.values() for name in names))


def operator(stage: str, vendor: str) -> Any:
    """
    What of a vendor serves a stage: the attribute of its ``operators.py`` that is called as the stage.

    :param stage: ``fetch``, ``enrich``, ``refresh``, ``block`` (or ``block.waf``), ``confirm``, ``watch``
    """
    kind = stage.partition(".")[0].lower()
    if kind in ("enrich", "refresh"):
        from threat_response.stages.enrich import Enrich, Refresh

        return partial(Enrich if kind == "enrich" else Refresh, vendor=vendor)
    return getattr(import_module(f"threat_response.vendors.{vendor}.operators"), kind.upper())


def enrichers(providers: Iterable[str]) -> dict[str, Any]:
    """
    The enrichers that the policy names, local lists first: what they say orders the questions to the others.

    :raises ValueError: naming one that there is not
    """
    chosen = {}
    for name in providers:
        if name not in SERVES["enrich"]:
            raise ValueError(f"policy, enrichment.providers: {name!r} is none of {', '.join(SERVES['enrich'])}")
        chosen[name] = operator("enrich", name)
    return dict(sorted(chosen.items(), key=lambda one: vendor_of(one[0]).is_remote))


def __getattr__(name: str) -> Any:
    """``FETCH``, ``ENRICH``, ``REFRESH``, ``BLOCK``, ``CONFIRM``, ``WATCH``: operators by vendor."""
    if not name.isupper():
        raise AttributeError(name)
    if name in ("FETCH", "ENRICH", "WATCH"):
        return {vendor: operator(name, vendor) for vendor in SERVES[name.lower()]}
    if name == "REFRESH":
        return {vendor: operator(name, vendor) for vendor in SERVES["enrich"] if vendor_of(vendor).refreshes}
    blocks = {stage.partition(".")[2]: vendors for stage, vendors in SERVES.items() if stage.startswith("block.")}
    if name == "BLOCK":
        return {place: {vendor: operator("block", vendor) for vendor in vendors} for place, vendors in blocks.items()}
    if name == "CONFIRM":
        controls = [vendor for vendors in blocks.values() for vendor in vendors if vendor_of(vendor).confirms]
        return {vendor: operator("confirm", vendor) for vendor in controls}
    raise AttributeError(name)
