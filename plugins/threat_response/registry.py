"""Which vendor serves which stage: one line each. The DAG, the docs and the completeness test follow from here.

Task id -> operator. Every operator of a stage takes and gives the same things (``contracts.py``), so the DAG never
names a vendor. A vendor whose connection is absent is skipped, so a line here obliges nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from airflow.sdk import BaseOperator

from threat_response.stages.control import ConfirmSensor, ControlOperator
from threat_response.stages.enrich import EnrichOperator
from threat_response.stages.fetch import Fetch
from threat_response.vendors.abuseipdb.operators import AbuseIPDBEnrichOperator, AbuseIPDBRefreshOperator
from threat_response.vendors.akamai_api_security.operators import AkamaiApiSecurityFetchOperator
from threat_response.vendors.akamai_client_lists.operators import (
    AkamaiClientListsActiveSensor,
    AkamaiClientListsBlockOperator,
)
from threat_response.vendors.akamai_sia.operators import AkamaiSiaFetchOperator
from threat_response.vendors.alienvault_otx.operators import AlienVaultOTXEnrichOperator
from threat_response.vendors.crowdstrike_falcon.operators import CrowdStrikeFalconBlockOperator
from threat_response.vendors.cyware_respond.operators import (
    CywareOpenIncidentsOperator,
    CywareRelateOperator,
    CywareUpdateIncidentsOperator,
)
from threat_response.vendors.greynoise.operators import GreyNoiseEnrichOperator
from threat_response.vendors.list_feed.operators import ListFeedEnrichOperator, ListFeedRefreshOperator
from threat_response.vendors.misp.operators import MispEnrichOperator
from threat_response.vendors.offline_asn.operators import OfflineAsnEnrichOperator
from threat_response.vendors.splunk.operators import SplunkWatchOperator
from threat_response.vendors.taxii.operators import TaxiiEnrichOperator, TaxiiRefreshOperator
from threat_response.vendors.threatfox.operators import ThreatFoxEnrichOperator
from threat_response.vendors.urlhaus.operators import URLhausEnrichOperator
from threat_response.vendors.virustotal.operators import VirusTotalEnrichOperator


class IncidentOperators(NamedTuple):
    """The case-management product's three stages."""

    open: type[BaseOperator]
    relate: type[BaseOperator]
    update: type[BaseOperator]


#: Stage 1.
FETCH: dict[str, type[Fetch]] = {
    "akamai_api_security": AkamaiApiSecurityFetchOperator,
    "akamai_sia": AkamaiSiaFetchOperator,
}
#: Stage 3.
ENRICH: dict[str, type[EnrichOperator]] = {
    "abuseipdb": AbuseIPDBEnrichOperator,
    "virustotal": VirusTotalEnrichOperator,
    "greynoise": GreyNoiseEnrichOperator,
    "list_feed": ListFeedEnrichOperator,
    "taxii": TaxiiEnrichOperator,
    "misp": MispEnrichOperator,
    "alienvault_otx": AlienVaultOTXEnrichOperator,
    "urlhaus": URLhausEnrichOperator,
    "threatfox": ThreatFoxEnrichOperator,
    "offline_asn": OfflineAsnEnrichOperator,
}
#: Stage 3: what an enricher needs refreshed first.
REFRESH: dict[str, type[BaseOperator]] = {
    "abuseipdb": AbuseIPDBRefreshOperator,
    "list_feed": ListFeedRefreshOperator,
    "taxii": TaxiiRefreshOperator,
}
#: Stages 4, 5 and 9.
INCIDENTS = IncidentOperators(CywareOpenIncidentsOperator, CywareRelateOperator, CywareUpdateIncidentsOperator)
#: Stages 6 and 7, by place.
BLOCK: dict[str, dict[str, type[ControlOperator]]] = {
    "waf": {"akamai_client_lists": AkamaiClientListsBlockOperator},
    "edr": {"crowdstrike_falcon": CrowdStrikeFalconBlockOperator},
}
#: A control whose write takes time to be in force: who waits for it.
CONFIRM: dict[str, type[ConfirmSensor]] = {"akamai_client_lists": AkamaiClientListsActiveSensor}
#: Stage 8.
WATCH: dict[str, type[ControlOperator]] = {"splunk": SplunkWatchOperator}


def enrichers(providers: Iterable[str]) -> dict[str, type[EnrichOperator]]:
    """
    Those of ``ENRICH`` that the policy names, local lists first: what they say orders the questions to the others.

    :raises ValueError: naming one that there is not
    """
    chosen = {}
    for name in providers:
        if name not in ENRICH:
            raise ValueError(f"policy, enrichment.providers: {name!r} is none of {', '.join(ENRICH)}")
        chosen[name] = ENRICH[name]
    return dict(sorted(chosen.items(), key=lambda one: one[1].is_remote))
