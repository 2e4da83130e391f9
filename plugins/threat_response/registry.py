"""Which vendor serves which stage: one line each. The DAG, the docs and the completeness test follow from here.

Task id -> operator. Every operator of a stage takes and gives the same things, so the DAG never
names a vendor. A vendor whose connection is absent is skipped, so a line here obliges nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from airflow.sdk import BaseOperator

from threat_response.stages.control import Confirm, Control
from threat_response.stages.enrich import Enrich, Refresh
from threat_response.stages.fetch import FetchOperator
from threat_response.vendors.akamai_api_security.operators import AkamaiApiSecurityFetchOperator
from threat_response.vendors.akamai_client_lists.operators import (
    AkamaiClientListsActiveSensor,
    AkamaiClientListsBlockOperator,
)
from threat_response.vendors.akamai_sia.operators import AkamaiSiaFetchOperator
from threat_response.vendors.crowdstrike_falcon.operators import CrowdStrikeFalconBlockOperator
from threat_response.vendors.cyware_respond.operators import (
    CywareOpenIncidentsOperator,
    CywareRelateOperator,
    CywareUpdateIncidentsOperator,
)
from threat_response.vendors.splunk.operators import SplunkWatchOperator


class IncidentOperators(NamedTuple):
    """The case-management product's three stages."""

    open: type[BaseOperator]
    relate: type[BaseOperator]
    update: type[BaseOperator]


#: Stage 1.
FETCH: dict[str, type[FetchOperator]] = {
    "akamai_api_security": AkamaiApiSecurityFetchOperator,
    "akamai_sia": AkamaiSiaFetchOperator,
}
#: Stage 3.
ENRICH: dict[str, partial[Enrich]] = {
    name: partial(Enrich, vendor=name)
    for name in (
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
    )
}
#: Stage 3: what an enricher needs refreshed first.
REFRESH: dict[str, partial[Refresh]] = {
    name: partial(Refresh, vendor=name) for name in ("abuseipdb", "list_feed", "taxii")
}
#: Stages 4, 5 and 9.
INCIDENTS = IncidentOperators(CywareOpenIncidentsOperator, CywareRelateOperator, CywareUpdateIncidentsOperator)
#: Stages 6 and 7, by place.
BLOCK: dict[str, dict[str, type[Control]]] = {
    "waf": {"akamai_client_lists": AkamaiClientListsBlockOperator},
    "edr": {"crowdstrike_falcon": CrowdStrikeFalconBlockOperator},
}
#: A control whose write takes time to be in force: who waits for it.
CONFIRM: dict[str, type[Confirm]] = {"akamai_client_lists": AkamaiClientListsActiveSensor}
#: Stage 8.
WATCH: dict[str, type[Control]] = {"splunk": SplunkWatchOperator}


def is_remote(provider: str) -> bool:
    """False for lists that are local: asking them costs nothing and tells nobody anything."""
    from threat_response.transport.hook import hook_class

    return bool(getattr(hook_class(provider), "is_remote"))  # noqa: B009


def enrichers(providers: Iterable[str]) -> dict[str, partial[Enrich]]:
    """
    Those of ``ENRICH`` that the policy names, local lists first: what they say orders the questions to the others.

    :raises ValueError: naming one that there is not
    """
    chosen = {}
    for name in providers:
        if name not in ENRICH:
            raise ValueError(f"policy, enrichment.providers: {name!r} is none of {', '.join(ENRICH)}")
        chosen[name] = ENRICH[name]
    return dict(sorted(chosen.items(), key=lambda one: is_remote(one[0])))
