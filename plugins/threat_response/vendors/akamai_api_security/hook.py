"""Akamai API Security: credentials and verbs, for both API families."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Connection

from include.soar.vendor.errors import Rejected, Unauthorized
from include.soar.vendor.wire import Request, Response, failure
from threat_response.transport.hook import VendorHook
from threat_response.transport.http import hide
from threat_response.transport.paging import Paging
from threat_response.vendors.akamai_api_security import api
from threat_response.vendors.akamai_api_security.vendor import VENDOR


class AkamaiApiSecurityHook(VendorHook):
    """
    Read Akamai API Security. What the connection holds depends on its extra ``family``:

    ``noname`` (default)  a user's token as ``password``; or a service account, ``login`` its client id and
                          ``password`` its client secret, with the extra ``auth_path`` where tokens are given
    ``neosec``            the API key as ``password``, the tenant key as extra ``tenant_key``
    """

    declared = VENDOR

    _token: str | None = None

    def secrets(self, connection: Connection) -> Iterable[str | None]:
        extra = connection.extra_dejson
        return [connection.login, connection.password, extra.get("tenant_key") if isinstance(extra, dict) else None]

    @property
    def family(self) -> str:
        return self.settings.family

    def headers(self, connection: Connection) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if self.family == "neosec":
            headers["X-API-Key"] = self.credential("password")
        return headers

    def exchange(self, request: Request) -> Response:
        if self.family == "neosec":
            return super().exchange(request)
        response = super().exchange(self._signed(request))
        if response.status == 401 and self.connection.login:
            # The token's life ended, perhaps in the middle of a read. Once only: a wrong secret must not loop.
            self.log.info("API Security refused the token; asking for a new one")
            self._token = None
            response = super().exchange(self._signed(request))
        return response

    def _signed(self, request: Request) -> Request:
        if self._token is None:
            self._token = self._new_token() if self.connection.login else self.credential("password")
            hide(self._token)
        return replace(request, headers={**request.headers, "Authorization": f"Bearer {self._token}"})

    def _new_token(self) -> str:
        # Below the host, always: text glued to the host's name would send the secret to somebody else.
        path = "/" + self.settings.auth_path.lstrip("/")
        request = api.token_request(self.credential("login"), self.credential("password"), path=path)
        response = super().exchange(request)
        error = failure(self.vendor, request.operation, response, datetime.now(UTC))
        if isinstance(error, Rejected) and error.status in (400, 422):
            # Nothing in this request is an item: what is wrong with it is the connection.
            error = Unauthorized(self.vendor, request.operation, error.reason, status=error.status)
        if error is not None:
            raise error
        return api.parse_token(response)

    def records(self, start_at: datetime, end_at: datetime) -> list[api.Read]:
        """
        Every page with records detected in ``[start_at, end_at)``: incidents and findings, or alerts.

        :raises Unexpected: the vendor's answers contradict each other: something is missing
        """
        if self.family == "neosec":
            return self._alerts(start_at, end_at)
        return [page for kind in api.LISTS for page in self._list(kind, start_at, end_at)]

    def _list(self, kind: str, start_at: datetime, end_at: datetime) -> list[api.Read]:
        limit, pages, offset = self.settings.page_size, [], 0
        paging = Paging(self.vendor, f"{kind}s", api.MAX_PAGES)
        for _ in paging:
            request = api.list_request(
                kind, start_at, end_at, offset=offset, limit=limit, return_fields=self.settings.return_fields
            )
            response = paging.take(self.send(request))
            answer = api.parse_list(kind, response)
            pages.append(_read(kind, response, answer.entities, start_at, end_at))
            offset += len(answer.entities)
            if not answer.moreEntities:
                break
        return pages

    def _alerts(self, start_at: datetime, end_at: datetime) -> list[api.Read]:
        limit = min(self.settings.page_size, api.NEOSEC_PAGE_SIZE)
        pages, offset = [], 0
        paging = Paging(self.vendor, "alerts", api.MAX_PAGES)
        for _ in paging:
            request = api.alerts_request(self.settings.tenant_key, start_at, offset=offset, limit=limit)
            response = paging.take(self.send(request))
            answer = api.parse_alerts(response, offset=offset, limit=limit)
            pages.append(_read("alert", response, answer.items, start_at, end_at))
            offset += len(answer.items)
            # The total may grow while we read: what is new stands at the end, and is read as well.
            if offset >= answer.total:
                break
        return pages

    def ping(self) -> str:
        now = datetime.now(UTC)
        if self.family == "neosec":
            request = api.alerts_request(self.settings.tenant_key, now - timedelta(hours=1), offset=0, limit=1)
            api.parse_alerts(self.send(request), offset=0, limit=1)
            return "the key works and may read alerts (family neosec)"
        # Both lists: a role may be allowed to read only one of them.
        for kind in api.LISTS:
            request = api.list_request(
                kind, now - timedelta(hours=1), now, offset=0, limit=1, return_fields=self.settings.return_fields
            )
            api.parse_list(kind, self.send(request))
        return "the token works and may read incidents and findings (family noname)"


def _read(kind: str, response: Response, records: list[Any], start_at: datetime, end_at: datetime) -> api.Read:
    return api.Read(response.body, [(kind, record) for record in records if api.in_window(record, start_at, end_at)])
