"""AlienVault OTX: credentials and verbs."""

from __future__ import annotations

from datetime import UTC, datetime

from include.soar.model import Observable, ObservableType, Reputation
from threat_response.transport.apikey import ApiKeyHook
from threat_response.transport.asking import Provider
from threat_response.vendors.alienvault_otx import api
from threat_response.vendors.alienvault_otx.vendor import VENDOR


class AlienVaultOTXHook(Provider, ApiKeyHook):
    """Ask AlienVault OTX. Connection: ``host`` (https://otx.alienvault.com), and the API key as ``password``."""

    declared = VENDOR
    key_header = "X-OTX-API-KEY"
    types = frozenset(
        {ObservableType.IPV4, ObservableType.IPV6, ObservableType.DOMAIN, ObservableType.URL, ObservableType.FILE}
    )
    hash_algorithms = api.HASH_ALGORITHMS
    quotas = api.QUOTAS

    def lookup(self, observable: Observable) -> Reputation:
        """
        What the pulses of OTX say about one public value. One call.

        :raises RateLimited: OTX publishes no limit and names no time
        """
        request = api.general_request(observable)
        response = self.exchange(request)
        if not api.is_unknown(response):
            response = self.accept(request, response)
        return api.parse_general(observable, response, known_at=datetime.now(UTC))

    def ping(self) -> str:
        return f"the key works; it is {api.parse_user(self.send(api.user_request()))}'s"
