"""Every vendor simulator in one application, under the vendors' real paths.

``python -m include.simulators --port 8081 --seed demo`` serves it on loopback.
"""

from __future__ import annotations

import importlib

from include.simulators.kit import Clock, FaultyLine, Simulator, build_app

#: One line a product: module in this folder -> class in it.
SIMULATORS = {
    # First: the next one answers everything else below /api/v3.
    "virustotal": "VirusTotalSimulator",
    "akamai_api_security": "AkamaiApiSecuritySimulator",
    "akamai_sia": "AkamaiSiaSimulator",
    "akamai_client_lists": "AkamaiClientListsSimulator",
    "abuseipdb": "AbuseIpdbSimulator",
    "list_feed": "ListFeedSimulator",
    "greynoise": "GreyNoiseSimulator",
    "alienvault_otx": "AlienvaultOtxSimulator",
    "urlhaus": "UrlhausSimulator",
    "threatfox": "ThreatfoxSimulator",
    "misp": "MispSimulator",
    "taxii": "TaxiiSimulator",
    "cyware_respond": "CywareRespondSimulator",
    "crowdstrike_falcon": "CrowdStrikeFalconSimulator",
    "splunk": "SplunkSimulator",
}


def create_app(products: list[str] | None = None) -> FaultyLine:
    """The application with all simulators, or only those named."""
    clock = Clock()
    simulators: list[Simulator] = []
    for product in products or SIMULATORS:
        module = importlib.import_module(f"include.simulators.{product}")
        simulators.append(getattr(module, SIMULATORS[product])(clock))
    return build_app(simulators, clock)
