"""URLhaus: credentials and verbs."""

from __future__ import annotations

from datetime import UTC, datetime

from include.soar.model import Observable, ObservableType, Reputation
from threat_response.transport.apikey import AbuseChHook
from threat_response.vendors.urlhaus import api
from threat_response.vendors.urlhaus.vendor import VENDOR


class URLhausHook(AbuseChHook):
    """Ask URLhaus. Connection: ``host`` (https://urlhaus-api.abuse.ch), and the Auth-Key as ``password``."""

    declared = VENDOR
    # The vendor documents hosts as IPv4 addresses and names.
    types = frozenset({ObservableType.IPV4, ObservableType.DOMAIN, ObservableType.URL, ObservableType.FILE})
    hash_algorithms = api.HASH_FIELDS

    def lookup(self, observable: Observable) -> Reputation:
        """
        What URLhaus knows about one host, URL or file. One call.

        :raises Rejected: URLhaus cannot take the value
        """
        response = self.send(api.lookup_request(observable))
        return api.parse_lookup(observable, response, known_at=datetime.now(UTC))

    def ping(self) -> str:
        # There is no call about the key itself; a resolver that everybody knows tells as much.
        resolver = Observable(type=ObservableType.IPV4, value="8.8.8.8")
        request = api.lookup_request(resolver)
        found = api.is_found(request.operation, self.send(request))
        return f"the key works; {resolver.value} has {'a' if found else 'no'} record"
