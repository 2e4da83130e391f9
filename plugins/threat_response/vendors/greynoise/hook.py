"""GreyNoise: credentials and verbs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from airflow.sdk import Connection

from include.soar.enrich.quota import Quota
from include.soar.model import Observable, ObservableType, Reputation
from threat_response.transport.asking import Provider, Question
from threat_response.transport.hook import VendorHook
from threat_response.vendors.greynoise import api
from threat_response.vendors.greynoise.vendor import VENDOR

#: A resolver that everybody knows, for *Test connection*.
_KNOWN = Observable(type=ObservableType.IPV4, value="8.8.8.8")


class GreyNoiseHook(Provider, VendorHook):
    """
    Ask GreyNoise. Connection: ``host`` (https://api.greynoise.io), the API key as ``password``, ``plan`` in the extra.

    The community's call works without a key too, for fewer lookups.
    """

    declared = VENDOR
    types = api.TYPES

    def headers(self, connection: Connection) -> dict[str, str]:
        key = self.credential("password") if self.plan == api.PAID else connection.password
        return {"Accept": "application/json"} | ({"key": key} if key else {})

    @property
    def plan(self) -> str:
        return self.settings.plan

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """What the key may do: the free lookups, or those that the connection names for a paid plan."""
        if self.plan == api.PAID:
            lookups = self.settings.lookups_per_day
            return (Quota("lookup", lookups, timedelta(days=1)),) if lookups else ()
        return api.FREE_QUOTAS if self.connection.password else api.KEYLESS_QUOTAS

    def lookup(self, observable: Observable) -> Reputation:
        """
        What GreyNoise says about one public IPv4 address. Costs one lookup.

        :raises RateLimited: the week's free lookups are spent; ``retry_after`` may be days
        :raises Unauthorized: also a paid plan that leaves out the internet scanners
        """
        request = api.lookup_request(observable, plan=self.plan)
        response = self.exchange(request)
        if self.plan == api.PAID:
            return api.parse_profile(observable, self.accept(request, response), known_at=datetime.now(UTC))
        if response.status == 404:
            return api.parse_community_not_found(observable, response, known_at=datetime.now(UTC))
        return api.parse_community(observable, self.accept(request, response), known_at=datetime.now(UTC))

    def lookup_many(self, observables: Sequence[Observable]) -> list[Reputation]:
        """
        As :meth:`lookup`, in one call; paid only. One that the answer passes over is not in the result.

        :param observables: at most ``api.MOST_AT_ONCE``
        :raises Rejected: one of them is refused, and with it the whole call
        """
        response = self.send(api.multi_request(observables))
        return api.parse_multi(observables, response, known_at=datetime.now(UTC))

    def questions(self, observables: Sequence[Observable]) -> list[Question]:
        if self.quotas:
            # Each counts as a lookup, also in a bulk call: one by one, our count is the vendor's.
            return super().questions(observables)
        return [Question(tuple(observables), GreyNoiseHook.lookup_many, at_once=api.MOST_AT_ONCE)]

    def ping(self) -> str:
        if self.plan == api.COMMUNITY and self.connection.password:
            pong = api.parse_ping(self.send(api.ping_request()))
            return f"the key works; plan {pong.plan or 'not named'}, until {pong.expiration or 'no named day'}"
        # Only a lookup shows whether the plan includes lookups, or whether any are left without a key.
        self.lookup(_KNOWN)
        return f"the {self.plan} lookup works; this test cost one"
