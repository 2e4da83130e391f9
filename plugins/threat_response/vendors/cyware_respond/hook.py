"""Cyware Respond: credentials and verbs."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import requests
from airflow.sdk import Connection
from requests.auth import AuthBase

from include.soar.incident.marks import marker_in
from include.soar.model import Observable, digest
from include.soar.vendor.errors import ClockSkew, Rejected, Unauthorized, Unexpected, one_line
from include.soar.vendor.wire import Request, Response
from threat_response.transport.hook import VendorHook
from threat_response.transport.http import hide_passing
from threat_response.vendors.cyware_respond import api
from threat_response.vendors.cyware_respond.tenant import (
    SIGNATURE_CAP_SECONDS,
    SIGNATURE_GRID_SECONDS,
    SIGNATURE_SECONDS,
    Tenant,
    tenant_of,
)
from threat_response.vendors.cyware_respond.vendor import VENDOR

#: How a refusal says that it is about the time in the signature.
_TIME = re.compile(r"\bexpire[sd]?\b|\btoo far\b|in the future", re.IGNORECASE)


def utcnow() -> datetime:
    return datetime.now(UTC)


class RedactQuery(logging.Filter):
    """
    urllib3 logs whole URLs, and ours carry a signature. Airflow's masker works in Airflow's own log pipeline only,
    so the query string is cut out where the record is made.
    """

    _QUERY = re.compile(r"(?i)\b(AccessID|Signature)=[^&\s\"']*")

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "Signature=" in message:
            record.msg, record.args = self._QUERY.sub(r"\1=***", message), ()
        return True


REDACT = RedactQuery()


class SignedQuery(AuthBase):
    """
    Signs each attempt afresh, when it is prepared: a signature lives for 20 seconds, less than a retry's delay or
    a long list.
    """

    def __init__(self, access_id: str, secret_key: str) -> None:
        self.access_id = access_id
        self.secret_key = secret_key
        self._hidden = ""

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        latest = int(utcnow().timestamp()) + SIGNATURE_SECONDS
        signed = api.signature(self.access_id, self.secret_key, latest - latest % SIGNATURE_GRID_SECONDS)
        if signed["Signature"] != self._hidden:
            hide_passing(signed["Signature"])
            self._hidden = signed["Signature"]
        parts = urlsplit(str(prepared.url))
        # urlencode, since a raw "+" of Base64 would be read as a space.
        query = "&".join(filter(None, (parts.query, urlencode(signed))))
        prepared.url = urlunsplit(parts._replace(query=query))
        return prepared


class CywareRespondHook(VendorHook):
    """
    Incidents, comments, threat intel and their connections.

    Connection: ``host`` (https://tenant.example), the access id as ``login``, the secret key as ``password``; or,
    with the extra ``auth`` = ``bearer``, an Open API token as ``password``. Other extras: see ``vendor.py``.
    """

    declared = VENDOR

    @cached_property
    def tenant(self) -> Tenant:
        return tenant_of(vars(self.settings))

    @cached_property
    def url(self) -> str:
        # The credential's CSV file and Respond's admin page give the API's URL, with more or less of its path; people
        # paste it as it is.
        url, base = super().url, self.tenant.base_path
        parts = base.strip("/").split("/")
        for length in range(len(parts), 0, -1):
            for ending in ("/v1", ""):
                if url.endswith(path := "/" + "/".join(parts[:length]) + ending):
                    return url.removesuffix(path)
        return url

    @cached_property
    def session(self) -> requests.Session:
        logger = logging.getLogger("urllib3.connectionpool")
        if REDACT not in logger.filters:
            logger.addFilter(REDACT)
        return super().session

    @property
    def _bearer(self) -> bool:
        return bool(self.settings.auth == "bearer")

    def secrets(self, connection: Connection) -> Iterable[str | None]:
        return [connection.login, connection.password]

    def auth(self, connection: Connection) -> AuthBase | None:
        return None if self._bearer else SignedQuery(self.credential("login"), self.credential("password"))

    def headers(self, connection: Connection) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.credential('password')}"} if self._bearer else {}

    def send(self, request: Request) -> Response:
        try:
            return super().send(request)
        except Unauthorized as error:
            # Refused before anything was done. A signature may have died on a slow way: once more, with a new one.
            if error.status not in (401, 403) or self._bearer:
                raise
        return super().send(request)

    def ping(self) -> str:
        try:
            self.send(api.test_connectivity_request(self.tenant))
        except Unauthorized as error:
            if error.status is None:  # nothing was answered: an incomplete connection, or TLS
                raise
            # Without the status: this call needs no grant, so even a 403 is about the key.
            kind = ClockSkew if _TIME.search(error.reason) else type(error)
            wrong = kind(self.vendor, error.operation, f"{error.reason} (HTTP {error.status})")
            raise self._skewed() or wrong from None
        # The first call proves the key, this one that its user may read incidents.
        self._page(api.INCIDENTS, "list_incidents", 1, ())
        return "the key works, and incidents can be read"

    def _skewed(self) -> Unauthorized | None:
        """A refused signature looks the same whether the key is wrong or the clock; the answer's Date tells."""
        response = self.exchange(api.test_connectivity_request(self.tenant))
        try:
            theirs = parsedate_to_datetime(response.headers["date"])
        except (KeyError, ValueError):
            return None
        if theirs.tzinfo is None:
            theirs = theirs.replace(tzinfo=UTC)
        seconds = (utcnow() - theirs).total_seconds()
        if SIGNATURE_GRID_SECONDS - SIGNATURE_SECONDS < seconds < SIGNATURE_CAP_SECONDS - SIGNATURE_SECONDS:
            return None
        reason = f"this machine's clock is {seconds:+.0f} s off the vendor's"
        return ClockSkew(self.vendor, "test_connectivity", reason, status=response.status)

    # --- lists ----------------------------------------------------------------------------------------------

    def _page(self, path: str, operation: str, number: int, filters: Sequence[tuple[str, str]]) -> api.Page:
        request = api.page_request(self.tenant, path, operation, number, filters)
        return api.parse_page(operation, self.send(request))

    def _iter_pages(self, path: str, operation: str, filters: Sequence[tuple[str, str]] = ()) -> Iterator[list[Any]]:
        """
        The rows of a list that were not on an earlier page (new rows push old ones on to the next page).

        A list ends with a page that is short, or that does not exist. The envelope's own signs are not trusted to
        end it, only to say that something is missing.

        :raises Unexpected: a short read, a page that repeats, or no end in sight
        """
        size = self.tenant.page_size
        seen: set[str] = set()
        for number in range(1, self.tenant.maximum_pages + 1):
            try:
                page = self._page(path, operation, number, filters)
            except Rejected as error:
                if error.status != 404 or number == 1:
                    raise
                return
            names = [_name_of(row) for row in page.rows]
            fresh = [row for name, row in zip(names, page.rows, strict=True) if name not in seen]
            seen.update(names)
            if len(page.rows) != size:
                so_far = (number - 1) * size + len(page.rows)
                if page.more or so_far < (page.count or 0):
                    raise Unexpected(
                        self.vendor,
                        operation,
                        f"short read: page {number} has {len(page.rows)} rows of {size} although more are announced "
                        f"(is page_size above the tenant's limit?)",
                    )
                yield fresh
                return
            if not fresh:
                raise Unexpected(self.vendor, operation, f"page {number} repeats earlier pages")
            yield fresh
        raise Unexpected(self.vendor, operation, f"no end after {self.tenant.maximum_pages} pages of {size}")

    def _list(self, path: str, operation: str, filters: Sequence[tuple[str, str]] = ()) -> list[Any]:
        return [row for page in self._iter_pages(path, operation, filters) for row in page]

    # --- incidents ------------------------------------------------------------------------------------------

    def list_incidents(self, created_from: datetime, created_until: datetime | None = None) -> list[api.IncidentRow]:
        """
        Every incident created in this time, whatever its status, oldest first.

        :raises Unexpected: rows are missing
        """
        rows = self._list(api.INCIDENTS, "list_incidents", api.created_between(created_from, created_until))
        return sorted(_readable(rows, self.log), key=lambda row: row.order)

    def get_incident(self, unique_id: str) -> api.Incident:
        """:raises Rejected: there is none (status 404)"""
        return api.parse_incident(self.send(api.incident_request(self.tenant, unique_id)))

    def create_incident(self, fields: Mapping[str, Any]) -> api.Created:
        """
        Create an incident. The vendor knows no idempotency key: whoever calls this has looked before, and looks
        again after Unavailable or Unexpected, since the incident may exist then.

        :param fields: by the vendor's names; references are names
        """
        return api.parse_created(self.send(api.create_incident_request(self.tenant, fields)))

    def update_incident(self, unique_id: str, fields: Mapping[str, Any]) -> None:
        """Change only these fields."""
        self._write(api.update_incident_request(self.tenant, unique_id, fields))

    def close_incident(self, unique_id: str, note: str) -> None:
        """:param note: HTML, why"""
        tenant = self.tenant
        fields = {"status": tenant.status_closed, "comment_type": tenant.closure, "description": note}
        self.update_incident(unique_id, fields)

    def comments(self, unique_id: str) -> list[api.Comment]:
        """Every comment of an incident."""
        return [api.parse_comment(row) for row in self._list(api.comments_path(unique_id), "list_comments")]

    def add_comment(self, unique_id: str, markup: str) -> None:
        """Add a comment. Not idempotent: see :meth:`create_incident`."""
        self._write(api.add_comment_request(self.tenant, unique_id, markup))

    # --- threat intel and connections -----------------------------------------------------------------------

    def ensure_iocs(self, observables: Sequence[Observable]) -> tuple[dict[str, str], dict[str, Rejected]]:
        """
        Make sure that these values are threat intel records. The vendor keeps one record a value.

        Whether a bulk-create's answer names the records, and what it does about values that exist, is not known:
        ids come from the answer, else from the list; a refused bulk is tried value by value.

        :param observables: each of a type that the vendor has a key for
        :return: by observable key: ids, and what was refused
        """
        refused: dict[str, Rejected] = {}
        ids: dict[str, str] = {}

        def missing() -> list[Observable]:
            return [o for o in observables if o.key not in ids]

        try:
            ids.update(self._bulk_create(observables))
        except Rejected:
            ids.update(self.find_iocs(missing()))
            for observable in missing():
                try:
                    ids.update(self._bulk_create([observable]))
                except Rejected as error:
                    refused[observable.key] = error
        if len(missing()) > len(refused):
            ids.update(self.find_iocs(missing()))
        if len(missing()) > len(refused):
            raise Unexpected(
                self.vendor, "bulk_create_iocs", f"{len(missing())} values were accepted and are not listed"
            )
        return ids, refused

    def _bulk_create(self, observables: Sequence[Observable]) -> dict[str, str]:
        answer = self._write(api.bulk_create_request(self.tenant, observables))
        return api.parse_iocs(answer, observables, self.tenant)

    def find_iocs(self, observables: Sequence[Observable]) -> dict[str, str]:
        """Ids of those values that are threat intel records, by observable key. Reads the whole list at worst."""
        found: dict[str, str] = {}
        if not observables:
            return found
        for page in self._iter_pages(api.IOCS, "list_iocs"):
            found.update(api.parse_iocs(page, observables, self.tenant))
            if len(found) == len(observables):
                break
        return found

    def connected(self, component: str, unique_id: str) -> list[api.Connected]:
        """What a component (``incident``, or the tenant's ``ioc_component``) is connected to."""
        return api.parse_connected(self.send(api.connected_request(self.tenant, component, unique_id)), self.tenant)

    def link_components(self, components: Mapping[str, Sequence[str]]) -> None:
        """Connect everything named with everything named: ids by component identifier."""
        self._write(api.link_request(self.tenant, components))

    def relate(self, newer_id: str, older_id: str) -> None:
        """Connect two incidents."""
        self._write(api.relate_request(self.tenant, newer_id, older_id))

    def page_of(self, unique_id: str, readable_id: str | None) -> str | None:
        """An incident's page, for a person."""
        return self.tenant.page_of_incident(self.url, unique_id, readable_id)

    def _write(self, request: Request) -> Any:
        return api.parse_written(request.operation, self.send(request))


def _name_of(row: Any) -> str:
    unique_id = row.get("unique_id") if isinstance(row, dict) else None
    return unique_id if isinstance(unique_id, str) else digest(row)


def _readable(rows: Iterable[Any], log: Any) -> Iterator[api.IncidentRow]:
    """Those that can be read. One of somebody else that cannot does not keep ours from being opened."""
    for row in rows:
        try:
            yield api.parse_row("list_incidents", row)
        except Unexpected as error:
            title = row.get("title") if isinstance(row, dict) else None
            if not isinstance(title, str) or marker_in(title):
                raise
            log.warning("Left out incident %s of the list: %s", one_line(_name_of(row), 80), error.reason)
