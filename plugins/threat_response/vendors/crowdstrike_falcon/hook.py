"""CrowdStrike Falcon: credentials and verbs, through the vendor's own client."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import requests
from airflow.sdk import Connection

from include.soar.model import Observable
from include.soar.vendor.errors import Rejected, Unauthorized, Unavailable, Unexpected, VendorError
from include.soar.vendor.wire import Response, failure
from threat_response.transport.hook import VendorHook
from threat_response.transport.http import WriteInPlanMode, connection_problem, hide
from threat_response.vendors.crowdstrike_falcon import api

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
    ``hash_action`` (prevent or detect), ``host_groups`` (ids; without it indicators apply globally).
    """

    vendor = api.VENDOR
    conn_type = "crowdstrike_falcon"
    default_conn_name = "crowdstrike_falcon_default"
    hook_name = "CrowdStrike Falcon"

    def secrets(self, connection: Connection) -> Iterable[str | None]:
        return [connection.login, connection.password]

    @property
    def rows(self) -> dict[str, Any]:
        """What the connection says about every indicator; the arguments of ``api.creation``."""
        return {
            "hash_action": self._words("hash_action", "prevent", api.HASH_ACTIONS)[0],
            "severity": self._words("severity", "high", api.SEVERITIES)[0],
            "platforms": self._words("platforms", "windows,mac,linux", api.PLATFORMS),
            "host_groups": self._words("host_groups", ""),
        }

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

    def write(
        self, *, create: Sequence[dict[str, Any]] = (), update: Sequence[dict[str, Any]] = (), comment: str
    ) -> tuple[dict[str, str], VendorError | None]:
        """
        Create and update in chunks. One bad row makes the vendor refuse the whole request, so a refused chunk is
        halved until the bad row stands alone.

        :return: why each refused value (create) or id (update) was refused, and what stopped the writing, if
            anything. What was written before stays written: search to know.
        """
        refused: dict[str, str] = {}
        try:
            for operation, rows in (("indicator_create", create), ("indicator_update", update)):
                for chunk in api.chunks(rows):
                    self._write(operation, chunk, comment, refused)
        except VendorError as error:
            return refused, error
        return refused, None

    def delete(self, ids: Sequence[str], comment: str) -> tuple[dict[str, str], VendorError | None]:
        """
        Delete in chunks. A refused chunk is halved until the bad id is alone.

        :return: why each refused id was refused, and what stopped the deleting, if anything. An id that is not there is
            refused, too: search to know.
        """
        refused: dict[str, str] = {}
        try:
            for chunk in api.id_chunks(ids):
                self._delete(chunk, comment, refused)
        except VendorError as error:
            return refused, error
        return refused, None

    def ping(self) -> str:
        answer = self._call("indicator_combined", limit=1)
        left = answer.headers.get("x-ratelimit-remaining", "?")
        return f"the client may read indicators at {urlsplit(self.url).hostname}; {left} calls left this minute"

    # --- falconpy -----------------------------------------------------------------------------------------

    @cached_property
    def falcon(self) -> Any:
        # Imported here: falconpy costs half a second, and every task of the DAG imports this file.
        from falconpy import IOC

        line = self.line
        falcon = IOC(
            client_id=self.required("login"),
            client_secret=self.required("password"),
            member_cid=self.extra("member_cid"),
            base_url=self.url,
            ssl_verify=line.verify,
            proxy=line.proxies or None,
            timeout=TIMEOUT_SECONDS,
            session=line,
            pythonic=False,
            debug=False,
        )
        self._check("token", falcon)
        return falcon

    @cached_property
    def line(self) -> Line:
        line = Line(self.url, self.writes_allowed)
        line.verify = self.extra("ca_bundle") or self.extra("verify", True)
        if proxy := self.extra("proxy"):
            line.proxies = {"http": proxy, "https": proxy}
        return line

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

    def _write(self, operation: str, chunk: list[dict[str, Any]], comment: str, refused: dict[str, str]) -> None:
        try:
            self._call(operation, body={"comment": comment, "indicators": chunk})
        except Rejected as error:
            if len(chunk) == 1:
                refused[chunk[0].get("id") or chunk[0]["value"]] = error.reason
                return
            half = len(chunk) // 2
            self._write(operation, chunk[:half], comment, refused)
            self._write(operation, chunk[half:], comment, refused)

    def _delete(self, ids: list[str], comment: str, refused: dict[str, str]) -> None:
        try:
            self._call("indicator_delete", ids=ids, comment=comment)
        except Rejected as error:
            if len(ids) == 1:
                refused[ids[0]] = error.reason
                return
            half = len(ids) // 2
            self._delete(ids[:half], comment, refused)
            self._delete(ids[half:], comment, refused)

    def _words(self, name: str, default: str, allowed: Sequence[str] = ()) -> list[str]:
        words = [word.strip() for word in str(self.extra(name, default)).split(",") if word.strip()]
        if allowed and not set(words) <= set(allowed):
            problem = f"{name} of connection {self.conn_id!r} is not of {', '.join(allowed)}"
            raise Unauthorized(self.vendor, "connection", problem)
        return words


class Line(requests.Session):
    """
    The line that falconpy's calls go over, with the rules of ``VendorHook.exchange``: nothing is written in plan
    mode, nothing leaves for another host, no redirect is followed, and no error is lost. falconpy swallows whatever
    is raised here, so it is kept in ``problem`` as well.
    """

    def __init__(self, base_url: str, writes_allowed: bool) -> None:
        super().__init__()
        self.trust_env = False
        self.base_url = base_url
        self.writes_allowed = writes_allowed
        self.forget()

    def forget(self) -> None:
        self.problem: Exception | None = None
        self.last: Response | None = None

    def request(self, method: str, url: str, **options: Any) -> requests.Response:  # type: ignore[override]
        path = url.removeprefix(self.base_url)
        operation = "token" if path == TOKEN_PATH else path
        try:
            if self.problem is not None:  # falconpy goes on without a token, too
                raise self.problem
            if not url.startswith(self.base_url + "/"):
                raise Unexpected(api.VENDOR, "token", ANOTHER_CLOUD)
            if method != "GET" and operation != "token" and not self.writes_allowed:
                raise WriteInPlanMode(f"{api.VENDOR} {method} {path} writes, and this run only plans")
            answer = self._ask(operation, method, url, options)
            self.last = Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.content)
            if operation == "token":
                api.check_token(self.last, datetime.now(UTC))
        except Exception as problem:
            self.problem = problem
            raise
        return answer

    def _ask(self, operation: str, method: str, url: str, options: dict[str, Any]) -> requests.Response:
        try:
            return super().request(method, url, **{**options, "allow_redirects": False})
        # `from None`: these exceptions' texts hold the whole URL.
        except requests.exceptions.SSLError:
            raise Unauthorized(api.VENDOR, operation, "TLS: the host's certificate is not trusted") from None
        except requests.exceptions.Timeout:
            raise Unavailable(api.VENDOR, operation, f"no answer within {TIMEOUT_SECONDS:g} s") from None
        except requests.exceptions.ConnectionError as error:
            raise Unavailable(api.VENDOR, operation, connection_problem(error)) from None
        except requests.exceptions.RequestException as error:
            raise Unavailable(api.VENDOR, operation, type(error).__name__) from None
