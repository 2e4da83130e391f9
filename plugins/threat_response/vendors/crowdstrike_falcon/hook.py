"""CrowdStrike Falcon: credentials and verbs, through the vendor's own client."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any
from urllib.parse import urlsplit

import requests
from airflow.sdk import Connection

from include.soar.model import Observable
from include.soar.vendor.errors import Rejected, Unexpected, VendorError
from include.soar.vendor.wire import Request, Response, failure
from threat_response.transport.batches import write_in_halves
from threat_response.transport.hook import VendorHook
from threat_response.transport.http import hide
from threat_response.vendors.crowdstrike_falcon import api
from threat_response.vendors.crowdstrike_falcon.vendor import VENDOR

#: For connecting, and for every wait for bytes. falconpy's own default is to wait for ever.
TIMEOUT_SECONDS = 60.0

TOKEN_PATH = "/oauth2/token"  # noqa: S105
#: A token answer with X-Cs-Region makes falconpy call that region from then on, whatever the connection says.
ANOTHER_CLOUD = "the vendor sends us to another cloud than the connection's host; correct the host"


class CrowdStrikeFalconHook(VendorHook):
    """
    Search, create and update custom indicators.

    Connection: ``host`` (the cloud's base URL, https://api.crowdstrike.com), client id as ``login``, client secret
    as ``password``; optional extras ``member_cid``, ``severity`` (high), ``platforms`` (windows,mac,linux),
    ``hash_action`` (prevent or detect), ``address_action`` (detect or prevent), ``host_groups`` (ids; without it
    indicators apply globally).
    """

    declared = VENDOR

    def secrets(self, connection: Connection) -> Iterable[str | None]:
        return [connection.login, connection.password]

    @property
    def wanted(self) -> api.Wanted:
        """What the connection says about every indicator."""
        return api.Wanted(
            hash_action=self.settings.hash_action,
            address_action=self.settings.address_action,
            severity=self.settings.severity,
            platforms=tuple(self.settings.platforms),
            host_groups=tuple(self.settings.host_groups),
        )

    def search(self, observables: Sequence[Observable]) -> dict[tuple[str, str], api.IOC]:
        """
        The indicators that exist, whoever made them, by type and value.

        :raises Unexpected: the vendor found more than it sent
        """
        found: dict[tuple[str, str], api.IOC] = {}
        for fql, _ in api.filters(observables):
            answer = self._call("indicator_combined", filter=fql, limit=api.SEARCH_LIMIT)
            found.update((ioc.key, ioc) for ioc in api.parse_search(answer))
        return found

    def ours(self) -> dict[tuple[str, str], api.IOC]:
        """
        Every indicator that carries our mark, by type and value.

        :raises Unexpected: the vendor found more than it sent
        """
        found: dict[tuple[str, str], api.IOC] = {}
        came, total, after = 0, 1, None
        while came < total:
            more: dict[str, str] = {"after": after} if after else {}
            answer = self._call("indicator_combined", filter=api.OURS, limit=api.SEARCH_LIMIT, sort=api.STABLE, **more)
            page, total, after = api.parse_page(answer)
            came += len(page)
            found.update((ioc.key, ioc) for ioc in page if not ioc.deleted)
            if came < total and not (page and after):
                raise Unexpected(self.vendor, "search", f"{came} of {total} indicators came")
        return found

    def write(
        self, *, create: Sequence[dict[str, Any]] = (), update: Sequence[dict[str, Any]] = (), comment: str
    ) -> tuple[dict[str, str], VendorError | None]:
        """
        Create and update in chunks. One bad row makes the vendor refuse the whole request: see ``write_in_halves``.

        :return: why each refused value (create) or id (update) was refused, and what stopped the writing, if
            anything. What was written before stays written: search to know.
        """
        refused: dict[str, str] = {}
        for operation, rows in (("indicator_create", create), ("indicator_update", update)):
            send = partial(self._write, operation, comment)
            more, stopped = write_in_halves(api.chunks(rows), send, name=lambda row: row.get("id") or row["value"])
            refused |= more
            if stopped is not None:
                return refused, stopped
        return refused, None

    def delete(self, ids: Sequence[str], comment: str) -> tuple[dict[str, str], VendorError | None]:
        """
        Delete in chunks.

        :return: why each refused id was refused, and what stopped the deleting, if anything. An id that is not there is
            refused, too: search to know.
        """

        def send(chunk: Sequence[str]) -> None:
            self._call("indicator_delete", ids=list(chunk), comment=comment)

        return write_in_halves(api.id_chunks(ids), send, name=str)

    def ping(self) -> str:
        answer = self._call("indicator_combined", limit=1)
        left = answer.headers.get("x-ratelimit-remaining", "?")
        offered = api.parse_words(self._call("action_query"))
        for name in ("hash_action", "address_action"):
            if (action := getattr(self.settings, name)) not in offered:
                raise self._wrong(f"has {name} {action!r}, and this tenant offers {', '.join(offered)}")
        where = f"the client may read indicators at {urlsplit(self.url).hostname}; {left} calls left this minute"
        return f"{where}. Whether an address may be more than detected only a write tells"

    # --- falconpy -----------------------------------------------------------------------------------------

    @cached_property
    def falcon(self) -> Any:
        # Imported here: falconpy costs half a second, and every task of the DAG imports this file.
        from falconpy import IOC

        falcon = IOC(
            client_id=self.credential("login"),
            client_secret=self.credential("password"),
            member_cid=self.settings.member_cid,
            base_url=self.url,
            session=self.line,
            pythonic=False,
            debug=False,
        )
        self._check("token", falcon)
        return falcon

    @cached_property
    def line(self) -> Line:
        return Line(self.url, self.exchange)

    def _call(self, operation: str, **arguments: Any) -> Response:
        """
        One of falconpy's operations, with its answer as it came over the line: falconpy itself turns everything
        that goes wrong, from a refused connection to an HTML page, into a dictionary with status 500.
        """
        self.line.forget()
        falcon = self.falcon
        getattr(falcon, operation)(**arguments)
        response = self._check(operation, falcon)
        error = failure(self.vendor, operation, response, datetime.now(UTC))
        if isinstance(error, Rejected):
            reason = api.refused_because(response.body)
            error = Rejected(self.vendor, operation, reason, status=response.status, request_id=response.request_id)
        if error is not None:
            raise error
        return response

    def _check(self, operation: str, falcon: Any) -> Response:
        """What falconpy keeps to itself: what went wrong on the line, and whether it left for another cloud."""
        hide(falcon.auth_object.token_value)
        if self.line.problem is not None:
            raise self.line.problem from None
        if falcon.base_url != self.url:
            raise Unexpected(self.vendor, operation, ANOTHER_CLOUD)
        if self.line.last is None:
            raise Unexpected(self.vendor, operation, "the vendor's client made no call")
        return self.line.last

    def _write(self, operation: str, comment: str, chunk: Sequence[dict[str, Any]]) -> None:
        self._call(operation, body={"comment": comment, "indicators": list(chunk)})


class Line:
    """
    What falconpy takes for its session: it hands each call to the hook's own ``exchange``, so that TLS, proxy, plan
    mode and errors are those of every vendor. Nothing leaves for another host than the connection's. falconpy
    swallows whatever is raised here, so it is kept in ``problem`` as well.
    """

    def __init__(self, base_url: str, exchange: Callable[[Request], Response]) -> None:
        self.base_url = base_url
        self.exchange = exchange
        self.forget()

    def forget(self) -> None:
        self.problem: Exception | None = None
        self.last: Response | None = None

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        """Of falconpy's options TLS, proxy, redirects and time-out are ours, and the rest is the call."""
        path = url.removeprefix(self.base_url)
        is_token = path == TOKEN_PATH
        try:
            if self.problem is not None:  # falconpy goes on without a token, too
                raise self.problem
            if not url.startswith(self.base_url + "/"):
                raise Unexpected(api.VENDOR, "token", ANOTHER_CLOUD)
            request = Request(
                method,
                path,
                operation="token" if is_token else path,
                params=_pairs(options.get("params")),
                json=options.get("json"),
                form=options.get("data"),
                headers=options.get("headers") or {},
                writes=method != "GET" and not is_token,
                timeout_seconds=TIMEOUT_SECONDS,
            )
            self.last = self.exchange(request)
            if is_token:
                api.check_token(self.last, datetime.now(UTC))
        except Exception as problem:
            self.problem = problem
            raise
        return _as_falconpy_reads_it(self.last)


def _pairs(params: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, str(one))
        for name, value in (params or {}).items()
        for one in (value if isinstance(value, (list, tuple)) else (value,))
        if one is not None
    )


def _as_falconpy_reads_it(response: Response) -> requests.Response:
    answer = requests.Response()
    answer.status_code = response.status
    # falconpy looks for X-Cs-Region in this spelling only.
    answer.headers.update({name.title(): value for name, value in response.headers.items()})
    answer.encoding = requests.utils.get_encoding_from_headers(answer.headers)
    answer.raw = io.BytesIO(response.body)
    return answer
