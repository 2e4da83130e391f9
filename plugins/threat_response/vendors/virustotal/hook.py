"""VirusTotal: credentials and verbs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Connection

from include.soar.enrich.quota import Quota
from include.soar.model import Answer, Observable, ObservableType, Reputation
from threat_response.transport.asking import NoAnswer, Provider
from threat_response.transport.hook import VendorHook
from threat_response.vendors.virustotal import api
from threat_response.vendors.virustotal.vendor import VENDOR

#: A resolver that everybody knows, for *Test connection*.
_KNOWN = Observable(type=ObservableType.IPV4, value="8.8.8.8")


class VirusTotalHook(Provider, VendorHook):
    """Ask VirusTotal. Connection: ``host`` (https://www.virustotal.com), and the API key as ``password``."""

    declared = VENDOR
    unavailable_statuses = api.UNAVAILABLE_STATUSES
    types = api.TYPES

    def headers(self, connection: Connection) -> dict[str, str]:
        return {"x-apikey": self.credential("password"), "Accept": "application/json"}

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """What the key may do: a public key's limits, or those that the connection names for a premium one."""
        if self.settings.plan == api.PUBLIC:
            return api.PUBLIC_QUOTAS
        named = (
            (self.settings.calls_per_minute, timedelta(minutes=1)),
            (self.settings.calls_per_day, timedelta(days=1)),
        )
        return tuple(Quota("lookup", calls, period) for calls, period in named if calls)

    def lookup(self, observable: Observable) -> Reputation:
        """
        What VirusTotal says about one address, domain, URL or file. Costs one of the key's lookups.

        :param observable: ``api.is_known_type`` says whether there is a call for it
        :raises RateLimited: a quota is spent; the vendor tells neither which one nor until when
        """
        request = api.lookup_request(observable)
        response = self.exchange(request)
        if response.status == 404:
            return api.parse_not_found(observable, response, known_at=datetime.now(UTC))
        return api.parse_lookup(observable, self.accept(request, response), known_at=datetime.now(UTC))

    def unaskable(self, observable: Observable) -> NoAnswer | None:
        if api.is_known_type(observable):
            return None
        return NoAnswer(Answer.NOT_APPLICABLE, "files are known by MD5, SHA-1 and SHA-256 only")

    def ping(self) -> str:
        # There is no free call that proves the key without carrying it in the path, where logs would keep it.
        self.lookup(_KNOWN)
        return "the key works; this test cost one lookup"
