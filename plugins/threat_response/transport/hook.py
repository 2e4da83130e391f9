"""What every vendor's hook stands on: connection -> HTTP -> typed answer, and error -> retry decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import requests
from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk import Connection
from requests.auth import AuthBase

from include.soar.enrich.quota import Quota, QuotaSeen
from include.soar.model import digest
from include.soar.vendor.errors import (
    Unauthorized,
    Unavailable,
    Unexpected,
    VendorError,
    one_line,
)
from include.soar.vendor.wire import Request, Response, failure
from threat_response.transport.causes import _cause
from threat_response.transport.http import _NOT_SENDABLE, WriteInPlanMode, connection_problem, hide

_DEFAULT_PORTS = {"http": 80, "https": 443}


class VendorHook(HttpHook):
    """
    Talk to one vendor.

    The connection is read when it is first needed, never while a DAG file is parsed. A subclass names its
    ``vendor`` and ``default_conn_name``, says how it proves who it is (``auth`` and ``headers``), which of the
    connection's fields are secret (``secrets``), how *Test connection* asks (``ping``), and adds verbs built on
    :meth:`send`.

    :param conn_id: Airflow connection; its ``host`` is the vendor's base URL, e.g. ``https://api.example``
    :param writes_allowed: False in plan mode: any request that writes is then refused here, whoever asks
    """

    vendor: ClassVar[str]
    conn_name_attr = "conn_id"
    #: Statuses that at this vendor mean something else than in general; see ``wire.failure``.
    rejected_statuses: ClassVar[tuple[int, ...]] = ()
    unavailable_statuses: ClassVar[tuple[int, ...]] = ()
    #: What the last answer told about the quota.
    seen_quota: QuotaSeen | None = None

    def __init__(self, conn_id: str | None = None, *, writes_allowed: bool = True) -> None:
        self.conn_id = conn_id or self.default_conn_name
        super().__init__(http_conn_id=self.conn_id)
        self.writes_allowed = writes_allowed

    # --- what a subclass says -----------------------------------------------------------------------------

    def secrets(self, connection: Connection) -> Iterable[str | None]:
        """Every value of the connection that must never be seen."""
        return [connection.password]

    def auth(self, connection: Connection) -> AuthBase | None:
        """How a request is signed; called once a session. A signature that expires belongs in the AuthBase."""
        return None

    def headers(self, connection: Connection) -> dict[str, str]:
        """Headers of every request."""
        return {}

    @property
    def quotas(self) -> tuple[Quota, ...] | None:
        """How often the connection's key may ask; None: as often as the provider's operator says."""
        return None

    def quota_seen(self, response: Response) -> QuotaSeen | None:
        """What an answer, a refusing one too, tells about the quota. By default nothing."""
        return None

    def ping(self) -> str:
        """One cheap call that proves host, key and grant; a line for the person who pressed *Test connection*."""
        raise NotImplementedError

    # --- what a subclass gets -----------------------------------------------------------------------------

    @cached_property
    def connection(self) -> Connection:
        connection = self.get_connection(self.conn_id)
        hide(*self.secrets(connection))
        return connection

    def sibling(self) -> Self:
        """The same connection, already read, with a session of its own: a session belongs to one thread."""
        other = type(self)(self.conn_id, writes_allowed=self.writes_allowed)
        other.__dict__["connection"] = self.connection
        return other

    def close(self) -> None:
        """End the connections that are kept open."""
        if session := self.__dict__.pop("session", None):
            session.close()

    @cached_property
    def key_digest(self) -> str:
        """Which key this is, without saying it: whose calls are counted together."""
        parts = [self.connection.login, *self.secrets(self.connection)]
        return digest([part or "" for part in parts])[:12]

    def extra(self, name: str, default: Any = None) -> Any:
        """A field of the connection's extra; an empty text counts as absent, since the UI's form sends it."""
        value = self.connection.extra_dejson.get(name)
        return default if value in (None, "") else value

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """
        A whole number of the connection's extra.

        :raises Unauthorized: naming the field
        """
        text = str(self.extra(name, default))
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            problem = f"{name} {one_line(text, 40)!r} is not a whole number from {low} to {high}"
            raise Unauthorized(self.vendor, "connection", problem)
        return int(text)

    def required(self, name: str) -> str:
        """
        A field of the connection that must be there: ``login``, ``password`` or an extra.

        :raises Unauthorized: naming the field
        """
        value = getattr(self.connection, name) if name in ("login", "password", "host") else self.extra(name)
        if value in (None, ""):
            raise Unauthorized(self.vendor, "connection", f"connection {self.conn_id!r} has no {name}")
        return str(value)

    @cached_property
    def url(self) -> str:
        """Scheme, host, port and the host's path, without a trailing slash. HTTPS unless the connection says http."""
        host = (self.connection.host or "").strip()
        if "://" not in host:
            host = f"{self.connection.schema or 'https'}://{host}"
        try:
            parts = urlsplit(host)
            port = parts.port or self.connection.port
        except ValueError:
            raise Unauthorized(self.vendor, "connection", f"connection {self.conn_id!r} has no valid host") from None
        if not parts.hostname or parts.scheme not in _DEFAULT_PORTS:
            raise Unauthorized(self.vendor, "connection", f"connection {self.conn_id!r} has no host")
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        # The default port is not part of a Host header; a signed one would differ from what the vendor sees.
        place = name if port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{name}:{port}"
        return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"

    @cached_property
    def session(self) -> requests.Session:
        session = requests.Session()
        # No proxy credentials or .netrc of the worker's environment may answer for the connection.
        session.trust_env = False
        session.verify = self.extra("verify", True)
        if ca := self.extra("ca_bundle"):
            session.verify = ca
        if proxy := self.extra("proxy"):
            session.proxies = {"http": proxy, "https": proxy}
        session.auth = self.auth(self.connection)
        session.headers.update(self.headers(self.connection))
        self._set_base_url(self.connection)  # the next line reads its scheme
        self._configure_session_from_mount_adapters(session)
        return session

    def send(self, request: Request) -> Response:
        """
        One request, one answer with a 2xx status.

        :raises WriteInPlanMode: the request writes and this run only plans
        :raises Unavailable, RateLimited, Unauthorized, Rejected, Unexpected: see ``include/soar/vendor/errors.py``
        """
        return self.accept(request, self.exchange(request))

    def accept(self, request: Request, response: Response) -> Response:
        """The answer, where its status is 2xx; raises as :meth:`send` does for any other."""
        error = failure(
            self.vendor,
            request.operation,
            replace(response, body=self._without_secrets(response.body)),
            datetime.now(UTC),
            rejected=self.rejected_statuses,
            unavailable=self.unavailable_statuses,
        )
        if error is not None:
            raise error
        return response

    def _without_secrets(self, body: bytes) -> bytes:
        """An error's own words: some vendors repeat the key that they refuse."""
        for secret in self.secrets(self.connection):
            if secret and len(secret) > 4:
                body = body.replace(secret.encode(), b"***")
        return body

    def exchange(self, request: Request) -> Response:
        """As :meth:`send`, but gives the answer back whatever its status."""
        if request.writes and not self.writes_allowed:
            raise WriteInPlanMode(f"{self.vendor} {request.operation} writes, and this run only plans")
        session, url = self.session, self.url + request.path
        try:
            answer = session.request(
                request.method,
                url,
                params=list(request.params),
                json=request.json,
                data=request.form,
                headers=dict(request.headers),
                timeout=request.timeout_seconds,
                # A redirect would carry our credentials to wherever the answer says.
                allow_redirects=False,
                stream=request.largest_bytes is not None,
            )
            body = self._read(request, answer)
        # `from None`: the texts of these exceptions hold the whole URL, and with it a signature.
        except (*_NOT_SENDABLE, UnicodeError):
            problem = "host, key or another field has a character that HTTP cannot carry (a line end, say)"
            raise Unauthorized(self.vendor, request.operation, problem) from None
        except requests.exceptions.SSLError:
            raise Unauthorized(self.vendor, request.operation, "TLS: the host's certificate is not trusted") from None
        except requests.exceptions.Timeout:
            raise Unavailable(
                self.vendor, request.operation, f"no answer within {request.timeout_seconds:g} s"
            ) from None
        except requests.exceptions.ConnectionError as error:
            raise Unavailable(self.vendor, request.operation, connection_problem(error)) from None
        except requests.exceptions.RequestException as error:
            raise Unavailable(self.vendor, request.operation, type(error).__name__) from None
        except OSError:
            raise Unauthorized(self.vendor, request.operation, "the connection's CA bundle cannot be read") from None
        response = Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, body)
        self.seen_quota = self.quota_seen(response) or self.seen_quota
        return response

    def _read(self, request: Request, answer: requests.Response) -> bytes:
        """The body; piece by piece where it is bounded, so that an endless one cannot fill the worker's memory."""
        bound = request.largest_bytes
        if bound is None:
            return answer.content
        body = bytearray()
        with answer:
            for piece in answer.iter_content(65_536):
                body += piece
                if len(body) > bound:
                    problem = f"answer is longer than {bound:,} bytes"
                    raise Unexpected(self.vendor, request.operation, problem, status=answer.status_code)
        return bytes(body)

    def test_connection(self) -> tuple[bool, str]:
        """For Airflow's *Test connection*: whether it works, and if not, which of the usual causes it is."""
        try:
            message = self.ping()
        except VendorError as error:
            message = f"{_cause(error)}: {error}"
            self.log.error("Test of connection %s failed. %s", self.conn_id, message)
            return False, message
        except Exception as error:
            # Airflow shows this text to the person: the kind of the error only, since its text may hold anything.
            message = f"Could not even ask: {type(error).__name__}"
            self.log.exception("Test of connection %s failed", self.conn_id)
            return False, message
        message = one_line(f"{self.vendor}: {message}")
        self.log.info("Test of connection %s passed. %s", self.conn_id, message)
        return True, message


def hook_class(name: str) -> type[VendorHook]:
    """A vendor's hook by the vendor's name; imports it."""
    module = import_module(f"threat_response.vendors.{name}.hook")
    return next(
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, VendorHook) and one.__dict__.get("vendor") == name
    )
