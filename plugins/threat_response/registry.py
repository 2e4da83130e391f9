"""Which vendor serves which stage: one name each. The DAG, the docs and the completeness test follow from here.

Reading this file imports nothing of any vendor: what a vendor is stands in its ``vendor.py``, and what serves a stage
is taken from its ``operators.py`` when somebody asks for it. An enricher needs none: one operator serves them all. A
vendor whose connection is absent is skipped, so a name here obliges nobody, but for the incident system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from threat_response.transport.form import Vendor, vendor_of

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


#: What goes with another stage is in that stage's file.
GOES_WITH = {"refresh": "enrich"}
#: Which product the incidents are in. It has one task in each of three stages, so there is one.
[INCIDENT_SYSTEM] = SERVES["incidents"]


def vendors() -> list[str]:
    """Every vendor, in the order of the stages."""
    return list(dict.fromkeys(name for names in SERVES.values() for name in names))


def operator(stage: str, vendor: str) -> Any:
    """
    The operator by which a vendor serves a stage: what its ``operators.py`` calls as the stage (``FETCH``, ``BLOCK``…),
    where the vendor differs; else what the stage's own file calls so.

    :param stage: a key of ``SERVES`` but ``incidents``, or ``refresh`` or ``confirm``, which go with ``enrich`` and
        ``block``
    :raises LookupError: neither has one
    """
    kind = stage.partition(".")[0]
    places = f"vendors.{vendor}.operators", f"stages.{GOES_WITH.get(kind, kind)}"
    for name in (f"threat_response.{place}" for place in places):
        if find_spec(name) is not None and (found := getattr(import_module(name), kind.upper(), None)):
            return found
    own, general = (f"plugins/threat_response/{place.replace('.', '/')}.py" for place in places)
    raise LookupError(f"{vendor} cannot serve {stage}: there is no {kind.upper()} in {own}, nor in {general}")


def controls_by_place() -> dict[str, tuple[str, ...]]:
    """The vendors of the controls, by place."""
    return {stage: names for stage, names in SERVES.items() if stage.partition(".")[0] in ("block", "watch")}


def vendors_of(stage: str) -> list[str]:
    """
    The vendors that serve a stage.

    :param stage: as of :func:`operator`; ``block`` for both places
    """
    if stage == "refresh":
        return [name for name in SERVES["enrich"] if vendor_of(name).refreshes]
    if stage == "confirm":
        return [name for name in vendors_of("block") if vendor_of(name).confirms]
    return [name for key, names in SERVES.items() if key == stage or key.startswith(f"{stage}.") for name in names]


def operators(stage: str) -> dict[str, Callable[..., Any]]:
    """By vendor, what makes its task of a stage: give it the task's id and what the stage takes."""
    return {vendor: partial(operator(stage, vendor), vendor=vendor) for vendor in vendors_of(stage)}


def providers(names: Iterable[str]) -> list[Vendor]:
    """
    The providers that the policy names, local lists first: what they say orders the questions to the others.

    :raises ValueError: naming one that there is not
    """
    chosen = []
    for name in names:
        if name not in SERVES["enrich"]:
            raise ValueError(f"policy, enrichment.providers: {name!r} is none of {', '.join(SERVES['enrich'])}")
        chosen.append(vendor_of(name))
    return sorted(chosen, key=lambda vendor: vendor.is_remote)
