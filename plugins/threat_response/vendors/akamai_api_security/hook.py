"""Akamai API Security: credentials and verbs, for both API families."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Connection

from include.soar.vendor.errors import Rejected, Unauthorized, Unexpected, one_line
from include.soar.vendor.wire import Request, Response, failure
from threat_response.transport.hook import VendorHook
from threat_response.transport.http import hide
from threat_response.transport.paging import Paging
from threat_response.vendors.akamai_api_security import api
from threat_response.vendors.akamai_api_security.vendor import VENDOR

#: How far outside of the window a record may lie without being told: we ask for a little more than the window.
SLACK = timedelta(seconds=1)


class FieldsRefused(Rejected):
    """The tenant's list of allowed names, whole: by it a person sees what this tenant is like."""

    longest = 3_000


class _NoUpdateDates(Exception):
    """The tenant's list cannot be asked by the time of the last change."""


class AkamaiApiSecurityHook(VendorHook):
    """
    Read Akamai API Security. What the connection holds depends on its extra ``family``:

    ``noname`` (default)  a user's token as ``password``; or a service account, ``login`` its client id and
                          ``password`` its client secret, with the extra ``auth_path`` where tokens are given
    ``neosec``            the API key as ``password``, the tenant key as extra ``tenant_key``
    """

    declared = VENDOR

    _token: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: By kind, what to ask for where the tenant does not know all our names.
        self._fields: dict[str, tuple[str, ...]] = {}

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
        # Below the host, always: text glued to the host's name would send the secret to another host.
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
            return self._alerts(start_at, end_at)[0]
        return [page for kind in api.LISTS for page in self._list(kind, start_at, end_at)]

    def grown(self, start_at: datetime, end_at: datetime) -> list[api.Read]:
        """
        Pages with records detected before ``start_at`` that may have grown in ``[start_at, end_at)``: an attack that
        goes on adds attackers to its incident.

        By the time of the last change, where the tenant's list can be asked for it. Else the open records of the last
        days, the newest first, at most :data:`api.LOOK_BACK_PAGES` pages of each kind.
        """
        days = timedelta(days=self.settings.grown_days)
        if not days:
            return []
        pages: list[api.Read] = []
        for kind in ("alert",) if self.family == "neosec" else api.LISTS:
            try:
                if kind == "alert":
                    raise _NoUpdateDates
                found = self._list(kind, start_at, end_at, by="lastUpdate")
            except _NoUpdateDates:
                found = self._look_back(kind, start_at - days, start_at)
            for body, records in found:
                older = [one for one in records if start_at - days <= (api.detected_at(one[1]) or end_at) < start_at]
                if older:
                    pages.append(api.Read(body, older))
        return pages

    def _look_back(self, kind: str, start_at: datetime, end_at: datetime) -> list[api.Read]:
        if kind == "alert":
            found, whole = self._alerts(start_at, end_at, open_only=True)
        else:
            found, whole = self._bounded(lambda: self._pages(kind, start_at, end_at))
        if not whole:
            self.log.warning(
                "%ss that may have grown: only the newest %d pages of open ones were read, none that is older",
                kind,
                api.LOOK_BACK_PAGES,
            )
        return [api.Read(body, [one for one in records if api.is_open(one[1])]) for body, records in found]

    @staticmethod
    def _bounded(pages: Callable[[], Iterator[api.Read]]) -> tuple[list[api.Read], bool]:
        """The first pages, and whether these were all."""
        found = []
        for page in pages():
            found.append(page)
            if len(found) == api.LOOK_BACK_PAGES:
                return found, False
        return found, True

    def _list(self, kind: str, start_at: datetime, end_at: datetime, *, by: str = "detection") -> list[api.Read]:
        return list(self._pages(kind, start_at, end_at, by=by))

    def _pages(self, kind: str, start_at: datetime, end_at: datetime, *, by: str = "detection") -> Iterator[api.Read]:
        limit, offset, promised = self.settings.page_size, 0, False
        seen: set[str] = set()
        paging = Paging(self.vendor, f"{kind}s", api.MAX_PAGES)
        for _ in paging:
            response = paging.take(self._ask(kind, start_at, end_at, offset=offset, limit=limit, by=by))
            answer = api.parse_list(kind, response)
            says = answer.moreEntities
            if promised and says is None and not answer.entities:
                raise Unexpected(
                    self.vendor, f"{kind}s", "short read: nothing comes after a page that says there is more"
                )
            names = {api.name_of(kind, record) or str(record) for record in answer.entities}
            if says is None and offset and names <= seen:
                return  # the end, where the tenant does not say it
            seen |= names
            if by == "lastUpdate" and api.is_outside(answer.entities, start_at, end_at):
                raise _NoUpdateDates  # it ignores them, and would give every record that there is
            if by == "detection":
                yield self._read(kind, response, answer.entities, start_at, end_at)
            else:
                yield api.Read(response.body, [(kind, record) for record in answer.entities])
            offset += len(answer.entities)
            promised = bool(says)
            if says is False or not answer.entities:
                return

    def _ask(self, kind: str, start_at: datetime, end_at: datetime, **more: Any) -> Response:
        """A page of a list. Names that the tenant does not know are left out, once, and told."""

        def exchange() -> tuple[Request, Response]:
            ours = api.RETURN_FIELDS[kind] if self.settings.return_fields else ()
            request = api.list_request(kind, start_at, end_at, fields=self._fields.get(kind, ours), **more)
            return request, self.exchange(request)

        request, response = exchange()
        allowed = api.allowed_fields(response)
        if allowed is not None and kind not in self._fields:
            self._fields[kind] = self._known(kind, allowed)
            request, response = exchange()
        if more["by"] == "lastUpdate" and api.dates_refused(response):
            raise _NoUpdateDates
        return self.accept(request, response)

    def _known(self, kind: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
        """
        Those of our names that the tenant knows; none where it does not list them: then it gives what it gives.

        :raises FieldsRefused: it knows too little
        """
        known = tuple(name for name in api.RETURN_FIELDS[kind] if name in allowed)
        missing = [name for name in api.RETURN_FIELDS[kind] if name not in allowed]
        if allowed and (needed := [name for name in api.NEEDED_FIELDS if name not in allowed]):
            reason = f"no {kind} can be read without {', '.join(needed)}; the tenant allows: {', '.join(allowed)}"
            raise FieldsRefused(self.vendor, f"{kind}s", reason, status=400)
        self.log.warning(
            "This tenant's %ss have no %s: asking without; it allows %s",
            kind,
            ", ".join(missing),
            one_line(", ".join(allowed) or "(it does not say)", 3_000),
        )
        if allowed and kind == "incident" and not set(api.ATTACKER_FIELDS) & set(known):
            self.log.error("This tenant's incidents do not tell who attacked: nobody can be blocked for them")
        return known

    def _alerts(self, start_at: datetime, end_at: datetime, *, open_only: bool = False) -> tuple[list[api.Read], bool]:
        """The pages, and whether these were all: of the open ones only the first are read."""
        limit = min(self.settings.page_size, api.NEOSEC_PAGE_SIZE)
        pages: list[api.Read] = []
        offset = 0
        paging = Paging(self.vendor, "alerts", api.MAX_PAGES)
        for _ in paging:
            request = api.alerts_request(
                self.settings.tenant_key, start_at, offset=offset, limit=limit, open_only=open_only
            )
            response = paging.take(self.send(request))
            answer = api.parse_alerts(response, offset=offset, limit=limit)
            pages.append(self._read("alert", response, answer.items, start_at, end_at))
            offset += len(answer.items)
            # The total may grow while we read: what is new stands at the end, and is read as well.
            if offset >= answer.total:
                break
            if open_only and len(pages) == api.LOOK_BACK_PAGES:
                return pages, False
        return pages, True

    def _read(
        self, kind: str, response: Response, records: list[Any], start_at: datetime, end_at: datetime
    ) -> api.Read:
        """A page without the records that lie outside of the window, which are named where they were not asked for."""
        # Alerts have no upper end: later ones come with every page.
        latest = None if kind == "alert" else end_at + SLACK
        times = [found for record in records if (found := api.detected_at(record))]
        far = [t for t in times if t < start_at - SLACK or (latest and t > latest)]
        if far:
            self.log.warning(
                "%d %ss were detected far outside of the window asked for, %s to %s, and are left out: from %s to %s",
                len(far),
                kind,
                start_at,
                end_at,
                min(far),
                max(far),
            )
        return api.Read(response.body, [(kind, r) for r in records if api.in_window(r, start_at, end_at)])

    def ping(self) -> str:
        now = datetime.now(UTC)
        if self.family == "neosec":
            request = api.alerts_request(self.settings.tenant_key, now - timedelta(hours=1), offset=0, limit=1)
            api.parse_alerts(self.send(request), offset=0, limit=1)
            return "the key works and may read alerts (family neosec)"
        # Both lists: a role may be allowed to read only one of them.
        for kind in api.LISTS:
            api.parse_list(kind, self._ask(kind, now - timedelta(hours=1), now, offset=0, limit=1, by="detection"))
        words = "the token works and may read incidents and findings (family noname)"
        for kind, known in self._fields.items():
            missing = [name for name in api.RETURN_FIELDS[kind] if name not in known]
            words += f"; {kind}s have no {', '.join(missing)}" if known else f"; {kind}s are read as they come"
        return words
