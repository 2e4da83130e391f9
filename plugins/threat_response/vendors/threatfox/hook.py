"""ThreatFox: credentials and verbs."""

from __future__ import annotations

from datetime import UTC, datetime

from include.soar.model import Observable, ObservableType, Reputation
from threat_response.transport.apikey import AbuseChHook
from threat_response.vendors.threatfox import api
from threat_response.vendors.threatfox.vendor import VENDOR


class ThreatFoxHook(AbuseChHook):
    """Ask ThreatFox. Connection: ``host`` (https://threatfox-api.abuse.ch), and the Auth-Key as ``password``."""

    declared = VENDOR
    # An address is listed as ip:port, which the vendor knows for IPv4 only.
    types = frozenset({ObservableType.IPV4, ObservableType.DOMAIN, ObservableType.URL, ObservableType.FILE})
    hash_algorithms = api.HASH_ALGORITHMS

    def lookup(self, observable: Observable) -> Reputation:
        """
        What ThreatFox knows about one value. One call.

        :raises Rejected: ThreatFox cannot take the value
        """
        response = self.send(api.search_request(observable))
        return api.parse_search(observable, response, known_at=datetime.now(UTC))

    def ping(self) -> str:
        # There is no call about the key itself; a resolver that everybody knows tells as much.
        resolver = Observable(type=ObservableType.IPV4, value="8.8.8.8")
        request = api.search_request(resolver)
        found = api.is_found(request.operation, self.send(request))
        return f"the key works; a search for {resolver.value} finds {'something' if found else 'nothing'}"
