"""AbuseIPDB: credentials and verbs."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import Connection

from include.soar.errors import RateLimited
from include.soar.model import Observable, ObservableType, Reputation
from include.soar.wire import Response
from vendors.abuseipdb import api
from vendors.base import VendorHook


class AbuseIPDBHook(VendorHook):
    """Ask AbuseIPDB. Connection: ``host`` (https://api.abuseipdb.com), and the API key as ``password``."""

    vendor = api.VENDOR
    conn_type = "abuseipdb"
    default_conn_name = "abuseipdb_default"
    hook_name = "AbuseIPDB"
    rejected_statuses = api.REJECTED_STATUSES

    def headers(self, connection: Connection) -> dict[str, str]:
        # Without Accept a spent quota answers with an HTML page.
        return {"Key": self.required("password"), "Accept": "application/json"}

    def check(self, observable: Observable, *, max_age_days: int | None = None) -> Reputation:
        """
        What AbuseIPDB says about one public address. Costs one of the key's daily checks.

        :param max_age_days: 1 to 365; default the connection's ``max_age_days``, else 90
        :raises RateLimited: the day's quota is spent; ``retry_after`` may be hours
        """
        response = self._check(observable, max_age_days or int(self.extra("max_age_days", 90)))
        self.log.debug("%s checks left today", response.headers.get("x-ratelimit-remaining", "unknown number of"))
        return api.parse_check(observable, response, known_at=datetime.now(UTC))

    def ping(self) -> str:
        # 127.0.0.1 costs one check, but proves the key; there is no free call that does.
        loopback = Observable(type=ObservableType.IPV4, value="127.0.0.1")
        response = self._check(loopback, 1)
        api.parse_check(loopback, response, known_at=datetime.now(UTC))
        limit = response.headers.get("x-ratelimit-limit", "?")
        return f"the key works; {response.headers.get('x-ratelimit-remaining', '?')} of {limit} checks left today"

    def _check(self, observable: Observable, max_age_days: int) -> Response:
        try:
            return self.send(api.check_request(observable, max_age_days=max_age_days))
        except RateLimited as error:
            self.log.warning("AbuseIPDB's daily quota is spent; it returns in %s s", error.retry_after)
            raise
