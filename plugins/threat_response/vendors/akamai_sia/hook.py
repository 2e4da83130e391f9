"""Akamai SIA: credentials and verbs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from include.soar.vendor.errors import ClockSkew, Rejected, Unauthorized, Unexpected
from include.soar.vendor.wire import Request, Response
from threat_response.transport.edgegrid import EdgeGridHook
from threat_response.transport.paging import Paging
from threat_response.vendors.akamai_sia import api
from threat_response.vendors.akamai_sia.vendor import VENDOR

#: How far outside of the window a row may lie without being told: we ask in whole seconds, and from one earlier.
SLACK = timedelta(seconds=2)


class AkamaiSiaHook(EdgeGridHook):
    """
    Read Secure Internet Access. Connection: ``host`` of the API client, its client token as ``login``, its client
    secret as ``password``, and in the extra ``access_token``, ``config_id`` and, where the client works for several
    accounts, ``account_switch_key``.
    """

    declared = VENDOR

    def send(self, request: Request) -> Response:
        try:
            return super().send(request)
        except Rejected as error:
            # The whole request is refused, not an item in it, and a person must act.
            kind: type[Unauthorized] = Unauthorized
            reason = error.reason
            if error.status == 400 and "timestamp" in reason.lower():
                kind = ClockSkew
            elif error.status == 404 and any(code in reason for code in api.FOREIGN_CONFIG_CODES):
                reason = f"this API client has no SIA configuration {self.settings.config_id}: {reason}"
            else:
                raise
            raise kind(
                self.vendor, request.operation, reason, status=error.status, request_id=error.request_id
            ) from None

    def threat_events(self, start_at: datetime, end_at: datetime) -> list[api.Read]:
        """
        Every page with threat events detected in ``[start_at, end_at)``.

        Complete only when ``end_at`` is three minutes old, and even then events follow up to three hours late.

        :raises Unexpected: the vendor's total and the rows received differ: something is missing
        """
        pages: list[api.Read] = []
        page_size = self.settings.page_size
        paging = Paging(self.vendor, "threat events", api.MAX_PAGES)
        for page in paging:
            response = paging.take(self._details(start_at, end_at, page, page_size))
            # The total may grow while we read. A late row then moves the others on, so that one comes twice
            # (the caller tells by its key) and the late one is met by the next window's overlap.
            details = api.parse_details(response, page=page, page_size=page_size)
            if not details.as_documented:
                self.log.warning(
                    "Page %d came without its total or its rows: taken as %d rows", page, len(details.rows)
                )
            if not details.as_documented and details.rows and pages and response.body == pages[-1].body:
                raise Unexpected(self.vendor, "threat events", f"page {page} repeats the one before")
            pages.append(self._in_window(response, details.rows, start_at, end_at))
            if not details.more:
                break
        return pages

    def _in_window(self, response: Response, rows: list[Any], start_at: datetime, end_at: datetime) -> api.Read:
        """A page without the rows outside of the window, which are named where asking a little wider does not explain
        them: no window may ever bring them again."""
        times = [found for row in rows if (found := api.detected_at(row))]
        if far := [t for t in times if not start_at - SLACK <= t <= end_at + SLACK]:
            self.log.warning(
                "%d rows were detected far outside of the window asked for, %s to %s, and are left out: from %s to %s",
                len(far),
                start_at,
                end_at,
                min(far),
                max(far),
            )
        return api.Read(response.body, [row for row in rows if api.in_window(row, start_at, end_at)])

    def ping(self) -> str:
        now = datetime.now(UTC)
        response = self._details(now - timedelta(minutes=10), now - timedelta(minutes=3), 1, 1)
        api.parse_details(response, page=1, page_size=1)
        return f"the signature is accepted and configuration {self.settings.config_id} may be read"

    def _details(self, start_at: datetime, end_at: datetime, page: int, page_size: int) -> Response:
        return self.send(
            api.details_request(
                self.settings.config_id,
                start_at,
                end_at,
                page=page,
                page_size=page_size,
                account_switch_key=self.settings.account_switch_key,
            )
        )
