"""What every vendor's hook stands on: an Airflow connection, read and checked, as a session that sends our requests."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from typing import ClassVar, Self
from urllib.parse import urlsplit

import requests
from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk import Connection
from requests.auth import AuthBase

from include.soar.enrich.quota import Quota, QuotaSeen
from include.soar.model import digest
from include.soar.vendor.errors import VendorError, WrongConnection, shown
from include.soar.vendor.wire import Request, Response, failure
from threat_response.transport import form, http
from threat_response.transport.causes import cause
from threat_response.transport.form import Settings, Vendor, vendor_of
from threat_response.transport.http import hide


class VendorHook(HttpHook):
    """
    Talk to one vendor.

    The connection is read when it is first needed, never while a DAG file is parsed. A subclass names its
    declaration, says how it proves who it is (``auth`` and ``headers``), which of the connection's values are secret
    (``secrets``), how *Test connection* asks (``ping``), and adds verbs built on :meth:`send`.

    :param conn_id: Airflow connection; its ``host`` is the vendor's base URL, e.g. ``https://api.example``
    :param writes_allowed: False in plan mode: any request that writes is then refused here, whoever asks
    """

    #: The ``VENDOR`` of the vendor's ``vendor.py``; what follows is taken from it.
    declared: ClassVar[Vendor]
    vendor: ClassVar[str]
    conn_name_attr = "conn_id"
    #: Statuses that at this vendor mean something else than in general; see ``wire.failure``.
    rejected_statuses: ClassVar[tuple[int, ...]] = ()
    unavailable_statuses: ClassVar[tuple[int, ...]] = ()
    #: What the last answer told about the quota.
    seen_quota: QuotaSeen | None = None

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "declared" in cls.__dict__:
            cls.vendor = cls.conn_type = cls.declared.name
            cls.hook_name = cls.declared.title
            cls.default_conn_name = cls.declared.conn_id

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
        """How often the connection's key may ask; None: nothing is known of a limit."""
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

    @cached_property
    def settings(self) -> Settings:
        """
        The fields of the connection's extra, as ``declared`` describes them.

        :raises WrongConnection: naming every field that is unknown, missing or wrong
        """
        settings = form.read(self.declared, self.connection)
        with suppress(ValueError):  # no URL: said when the session is made
            hide(urlsplit(getattr(settings, "proxy", None) or "").password)
        return settings

    def credential(self, name: str) -> str:
        """
        The connection's ``login`` or ``password``, where it must be there.

        :raises WrongConnection: naming it
        """
        if not (value := getattr(self.connection, name)):
            raise self._wrong(f"has no {name}")
        return str(value)

    def _wrong(self, problem: str) -> WrongConnection:
        return WrongConnection(self.vendor, "connection", f"connection {self.conn_id!r} {problem}")

    @cached_property
    def url(self) -> str:
        """Scheme, host, port and the host's path, without a trailing slash. HTTPS unless the connection says http."""
        connection = self.connection
        try:
            return http.base_url(connection.host, connection.port, scheme=connection.schema)
        except ValueError as error:
            raise self._wrong(f"has {error}") from None

    @cached_property
    def session(self) -> requests.Session:
        settings = self.settings
        try:
            session = http.new_session(verify=settings.verify, ca_bundle=settings.ca_bundle, proxy=settings.proxy)
        except OSError:
            raise self._wrong("has a ca_bundle, and this CA bundle cannot be read") from None
        session.auth = self.auth(self.connection)
        session.headers.update(self.headers(self.connection))
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
            response,
            datetime.now(UTC),
            rejected=self.rejected_statuses,
            unavailable=self.unavailable_statuses,
            own_pages=self.declared.own_pages,
        )
        if error is not None:
            raise error
        return response

    def exchange(self, request: Request) -> Response:
        """As :meth:`send`, but gives the answer back whatever its status."""
        response = http.exchange(
            self.session, request, vendor=self.vendor, url=self.url, writes_allowed=self.writes_allowed
        )
        self.seen_quota = self.quota_seen(response) or self.seen_quota
        return response

    def test_connection(self) -> tuple[bool, str]:
        """For Airflow's *Test connection*: whether it works, and if not, which of the usual causes it is."""
        try:
            _ = self.settings  # every field is checked here, also those that ping does not use
            message = self.ping()
        except VendorError as error:
            # Airflow tests under a made-up id, and what a task would do next is nothing to a person at a form.
            facts = error.facts.replace(f"connection {self.conn_id!r}", "the connection")
            message = f"{cause(error)}: {facts}"
            self.log.error("Test of connection %s failed. %s", self.conn_id, message)
            return False, message
        except Exception as error:
            # Airflow shows this text to the person: the kind of the error only, since its text may hold anything.
            message = f"Could not even ask: {type(error).__name__}"
            self.log.exception("Test of connection %s failed", self.conn_id)
            return False, message
        message = f"{self.vendor}: {shown(message)}"
        self.log.info("Test of connection %s passed. %s", self.conn_id, message)
        return True, message


def basic_secrets(connection: Connection) -> list[str | None]:
    """The password, and how the header of Basic authentication spells it."""
    basic = base64.b64encode(f"{connection.login}:{connection.password}".encode()).decode()
    return [connection.password, basic if connection.login else None]


def hook_class(name: str) -> type[VendorHook]:
    """A vendor's hook by the vendor's name; imports it."""
    found: type[VendorHook] = getattr(import_module(f"threat_response.vendors.{name}.hook"), vendor_of(name).hook)
    return found
