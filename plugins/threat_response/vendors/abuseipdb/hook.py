"""AbuseIPDB: credentials and verbs, and the last good copy of its blacklist."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Connection, ObjectStoragePath

from include.soar.enrich.quota import QuotaSeen
from include.soar.model import Observable, ObservableType, Reputation
from include.soar.vendor.errors import RateLimited, Unexpected, VendorError
from include.soar.vendor.wire import Request, Response
from threat_response.runtime import settings
from threat_response.stages.asking import Meter, metered
from threat_response.transport.hook import VendorHook
from threat_response.vendors.abuseipdb import api
from threat_response.vendors.abuseipdb.vendor import VENDOR

#: The connection's ``blacklist``, where it is not JSON.
PLAINTEXT, OFF = "plaintext", "off"


class AbuseIPDBHook(VendorHook):
    """Ask AbuseIPDB. Connection: ``host`` (https://api.abuseipdb.com), and the API key as ``password``."""

    declared = VENDOR
    rejected_statuses = api.REJECTED_STATUSES

    def headers(self, connection: Connection) -> dict[str, str]:
        # Without Accept a spent quota answers with an HTML page.
        return {"Key": self.credential("password"), "Accept": "application/json"}

    @property
    def check_block_from(self) -> int:
        """So many addresses of one /24 are asked about with one ``check-block``; 0: never."""
        return self.settings.check_block_from

    def check(self, observable: Observable, *, max_age_days: int | None = None) -> Reputation:
        """
        What AbuseIPDB says about one public address. Costs one of the key's daily checks.

        :param max_age_days: 1 to 365; default the connection's ``max_age_days``, else 90
        :raises RateLimited: the day's quota is spent; ``retry_after`` may be hours
        """
        response = self._ask(api.check_request(observable, max_age_days=max_age_days or self.settings.max_age_days))
        return api.parse_check(observable, response, known_at=datetime.now(UTC))

    def check_block(self, block: Observable, members: Sequence[Observable]) -> list[Reputation]:
        """
        What AbuseIPDB says about several addresses of one /24. Costs one of the key's daily ``check-block`` calls.

        :raises Rejected: the plan does not allow such a network, or reports so old (402)
        """
        days = min(self.settings.max_age_days, api.BLOCK_MOST_DAYS)
        response = self._ask(api.block_request(block, max_age_days=days))
        return api.parse_block(block, members, response, max_age_days=days, known_at=datetime.now(UTC))

    def refresh_blacklist(self, meter: Meter, *, not_before: timedelta) -> dict[str, Any] | None:
        """
        The newest copy of the blacklist: asks when it was last asked for, with or without success, longer ago than
        ``not_before``. None where there is no copy. Never fails for the vendor's sake: every address on the list can
        also be asked about.

        :param meter: of the quota ``blacklist``
        :return: ``{uri, generated_at, rows, form, confidence_minimum, limit, asked_at}``
        """
        asked = self._wanted_blacklist()
        if asked is None:
            return None
        form, minimum, limit = asked["form"], asked["confidence_minimum"], asked["limit"]
        now, current = meter.now(), self._current(asked)
        if current and now - datetime.fromisoformat(current["asked_at"]) < not_before:
            return current if "uri" in current else None
        request = api.blacklist_request(confidence_minimum=minimum, limit=limit, plaintext=form == PLAINTEXT)
        try:
            with metered(meter):
                response = self._ask(request)
            blacklist = api.parse_blacklist(response, confidence_minimum=minimum)
        except VendorError as error:
            self.log.warning("No new blacklist: %s. The addresses on it will be asked about one by one", error)
        else:
            for remark in api.blacklist_remarks(blacklist, confidence_minimum=minimum, limit=limit):
                self.log.warning("Blacklist: %s", remark)
            name = f"{blacklist.body_digest[:16]}.gz"
            current = {
                "uri": settings.archive_write(self._place / name, gzip.compress(response.body, mtime=0)),
                "generated_at": blacklist.generated_at.isoformat(),
                "rows": len(blacklist.rows),
            }
        current = {**current, **asked, "asked_at": now.isoformat()}
        settings.archive_write(self._place / "current.json", json.dumps(current).encode())
        return current if "uri" in current else None

    def kept_blacklist(self) -> list[dict[str, Any]]:
        """The reference of the newest copy, if there is one; nobody is asked."""
        asked = self._wanted_blacklist()
        current = self._current(asked) if asked else {}
        return [current] if "uri" in current else []

    def load_blacklist(self, reference: dict[str, Any]) -> api.Blacklist:
        """
        A copy, from the answer as it came.

        :raises Unexpected: it is not there any more, or not whole
        """
        try:
            body = gzip.decompress(ObjectStoragePath(reference["uri"]).read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise Unexpected(self.vendor, "blacklist", f"the copy cannot be read: {type(error).__name__}") from None
        headers = {"x-generated-at": reference["generated_at"]} if reference["form"] == PLAINTEXT else {}
        return api.parse_blacklist(Response(200, headers, body), confidence_minimum=reference["confidence_minimum"])

    def quota_seen(self, response: Response) -> QuotaSeen | None:
        return api.quota_seen(response)

    def ping(self) -> str:
        # 127.0.0.1 costs one check, but proves the key; there is no free call that does.
        loopback = Observable(type=ObservableType.IPV4, value="127.0.0.1")
        response = self._ask(api.check_request(loopback, max_age_days=1))
        api.parse_check(loopback, response, known_at=datetime.now(UTC))
        limit = response.headers.get("x-ratelimit-limit", "?")
        return f"the key works; {response.headers.get('x-ratelimit-remaining', '?')} of {limit} checks left today"

    def _ask(self, request: Request) -> Response:
        try:
            response = self.send(request)
        except RateLimited as error:
            self.log.warning(
                "AbuseIPDB's daily quota is spent for %s; it returns in %s s", request.operation, error.retry_after
            )
            raise
        left = response.headers.get("x-ratelimit-remaining", "an unknown number")
        self.log.debug("%s of today's %s calls left", left, request.operation)
        return response

    def _wanted_blacklist(self) -> dict[str, Any] | None:
        """What the connection says of it; None: no blacklist."""
        form = self.settings.blacklist
        if form == OFF:
            return None
        return {
            "form": form,
            "confidence_minimum": self.settings.blacklist_minimum,
            "limit": self.settings.blacklist_limit,
        }

    @property
    def _place(self) -> ObjectStoragePath:
        return settings.archive() / "blacklists" / self.conn_id

    def _current(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The last reference, where it is of what the connection asks for."""
        path = self._place / "current.json"
        if not path.exists():
            return {}
        try:
            current: dict[str, Any] = json.loads(path.read_bytes())
        except ValueError:  # a worker that was killed while it wrote: as good as no copy
            return {}
        return current if all(current.get(name) == value for name, value in asked.items()) else {}
