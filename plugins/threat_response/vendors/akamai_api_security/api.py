"""
Akamai API Security without I/O, for both API families that exist under that name. Field names are the vendor's.

The vendor publishes no specification. What is known comes from public clients of the real service: *noname* from
scripts against ``https://<tenant>.nonamesec.com``, *neosec* from the vendor-written integration in demisto/content
(``Packs/Neosec``). Documentation for customers: https://techdocs.akamai.com/api-security/docs. All of it, and every
INFERENCE, stands in the constants below, so that a difference found on a tenant is a change in one place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote

from pydantic import Field, TypeAdapter, ValidationError

from include.soar.extract.records import load_records
from include.soar.model import Instant
from include.soar.vendor.errors import Unexpected
from include.soar.vendor.wire import Request, Response, VendorShape, decode
from threat_response.vendors.akamai_api_security.records import (
    VENDOR,
    name_of,
    nobody_read,
    parse,
    told,
    unwrap,
)

__all__ = ["VENDOR", "name_of", "nobody_read", "parse", "told", "unwrap"]

TIMEOUT_SECONDS = 60.0

# --- noname: known from third-party clients, unless marked ---------------------------------------------------

#: Where a service account gets its token, as an Akamai lab's repository uses it.
AUTH_PATH = "/auth/token"
#: kind of record -> its list
LISTS = {"incident": "/api/v4/incidents", "finding": "/api/v4/findings"}
#: An unknown name is refused with 400, which lists the allowed ones: we then ask for those of ours that are among
#: them. The finding's names are those that clients send; INFERENCE: the incident's, by analogy and from the payloads
#: that log parsers read (public clients ask incidents for ``id``, ``responseCodes`` and ``status`` only).
RETURN_FIELDS = {
    "incident": (
        *("id", "title", "url", "typeId", "module", "status", "severity", "host", "path", "method", "apiId"),
        *("relatedApiIds", "owaspTags", "detectionTime", "lastUpdate", "lastActivity", "attacker", "attackerIp"),
        *("attackerIps", "attackerConfidence", "countries", "description", "impact", "remediation"),
        *("investigate", "comments", "evidence"),
    ),
    "finding": (
        *("id", "title", "url", "typeId", "apiId", "relatedApiIds", "module", "host", "path", "method"),
        *("resourceGroupName", "status", "severity", "owaspTags", "complianceFrameworkTags"),
        *("vulnerabilityFrameworkTags", "detectionTime", "lastUpdate", "triggeredOn", "description", "impact"),
        *("remediation", "investigate", "comments", "tickets", "externalTickets", "evidence", "source"),
        *("hasRelatedIncidents", "tagsIds"),
    ),
}
#: Without these no record can be read; of the last ones, without any nobody can be blocked.
NEEDED_FIELDS = ("id", "severity", "detectionTime")
ATTACKER_FIELDS = ("attacker", "attackerIp", "attackerIps")

# --- neosec --------------------------------------------------------------------------------------------------

#: The vendor's own integration never asks for more.
NEOSEC_PAGE_SIZE = 50
NEOSEC_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"

# --- both ----------------------------------------------------------------------------------------------------

#: A list that has not ended after so many pages is not a list.
MAX_PAGES = 5_000
#: So many pages of older records are looked through for those that have grown, where nothing better is known.
LOOK_BACK_PAGES = 20
#: How far outside of what was asked for a time of last update may be.
UPDATE_SLACK = timedelta(minutes=1)
#: Statuses of records that nobody works on any more. INFERENCE: all but ``resolved`` and ``Closed``.
DONE = frozenset({"resolved", "closed", "dismissed", "ignored"})


class Read(NamedTuple):
    """One page: the body as it came, and ``(kind, record)`` of each of its records in the window."""

    body: bytes
    records: list[tuple[str, Any]]


# --- requests ------------------------------------------------------------------------------------------------


def token_request(client_id: str, client_secret: str, *, path: str = AUTH_PATH) -> Request:
    return Request(
        "POST",
        path,
        operation="token",
        json={"client_id": client_id, "client_secret": client_secret},
        timeout_seconds=TIMEOUT_SECONDS,
    )


def list_request(
    kind: str,
    start_at: datetime,
    end_at: datetime,
    *,
    offset: int,
    limit: int,
    fields: Sequence[str] | None = None,
    by: str = "detection",
) -> Request:
    """
    A page of incidents or findings by detection time, newest first: a record that arrives during the read then
    pushes known ones onto the next page, where they are read twice, and none is passed over.

    The window is asked a millisecond wider at both ends, since no document says which bounds are inclusive.

    :param fields: the members to ask for; empty: those that the vendor gives unasked; None: all that we know
    :param by: ``detection``, or ``lastUpdate`` for what changed in that time
    """
    step = timedelta(milliseconds=1)
    return Request(
        "GET",
        LISTS[kind],
        operation=LISTS[kind].rsplit("/", 1)[-1],
        params=(
            (f"{by}StartDate", _millis(start_at - step)),
            (f"{by}EndDate", _millis(end_at + step)),
            ("sortDesc", "true"),
            ("limit", str(limit)),
            ("offset", str(offset)),
            *(("returnFields", name) for name in (RETURN_FIELDS[kind] if fields is None else fields)),
        ),
        timeout_seconds=TIMEOUT_SECONDS,
    )


def alerts_request(
    tenant_key: str, start_at: datetime, *, offset: int, limit: int = NEOSEC_PAGE_SIZE, open_only: bool = False
) -> Request:
    """
    A page of alerts from ``start_at`` until now, oldest first; of the open ones the newest first.

    ``Gt`` is the only comparison known, so there is no upper end, and it may compare whole seconds: asking from the
    second before keeps what is within the first one. Too early and too late alerts are left out by the caller.
    """
    after = start_at.astimezone(UTC).replace(microsecond=0) - timedelta(seconds=1)
    return Request(
        "POST",
        f"/v4/organizations/{quote(tenant_key, safe='')}/alerts/query",
        operation="alerts",
        json={
            "alert_filters": [
                {"name": "triggered_at", "operator": "Gt", "value": after.strftime(NEOSEC_TIME)},
                *([{"name": "status", "operator": "Eq", "value": "Open"}] if open_only else []),
            ],
            "offset": offset,
            "sort_by": "desc(triggered_at)" if open_only else "asc(triggered_at)",
            "limit": limit,
        },
        timeout_seconds=TIMEOUT_SECONDS,
    )


def _millis(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- answers -------------------------------------------------------------------------------------------------


class TokenAnswer(VendorShape):
    accessToken: str = Field(min_length=1)


class ListAnswer(VendorShape):
    entities: list[Any]
    #: None: not said. Public clients of incidents never read it, and ask until a page is empty.
    moreEntities: bool | None = None


class AlertsAnswer(VendorShape):
    items: list[Any]
    total: int = Field(ge=0)


def parse_token(response: Response) -> str:
    return decode(VENDOR, "token", TokenAnswer, response.body).accessToken


def parse_list(kind: str, response: Response) -> ListAnswer:
    """
    A page. An answer without a body, which a public client has met, is an empty one.

    :raises Unexpected: also for an empty page that promises more: a page is missing
    """
    operation = LISTS[kind].rsplit("/", 1)[-1]
    if not response.body.strip():
        return ListAnswer(entities=[])
    answer = decode(VENDOR, operation, ListAnswer, load_records(VENDOR, operation, response.body))
    if answer.moreEntities and not answer.entities:
        raise Unexpected(VENDOR, operation, "short read: an empty page that says there are more records")
    return answer


def parse_alerts(response: Response, *, offset: int, limit: int) -> AlertsAnswer:
    """:raises Unexpected: also when the page does not hold what ``total`` promises at this offset"""
    answer = decode(VENDOR, "alerts", AlertsAnswer, load_records(VENDOR, "alerts", response.body))
    promised = max(0, min(limit, answer.total - offset))
    if len(answer.items) != promised:
        raise Unexpected(
            VENDOR, "alerts", f"short read: {len(answer.items)} alerts at offset {offset} of {answer.total}"
        )
    return answer


_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)
_ALLOWED = re.compile(r"each value in returnFields must be one of the following values:\s*([\w.,\s-]+)")


def allowed_fields(response: Response) -> tuple[str, ...] | None:
    """
    The names that a refusal lists as allowed for ``returnFields``, ``()`` where it lists none.

    :return: None: it is no refusal of these names
    """
    if response.status != 400 or b"returnFields" not in response.body:
        return None
    found = _ALLOWED.search(response.body.decode("utf-8", "replace"))
    return tuple(dict.fromkeys(re.findall(r"\w+", found[1]))) if found else ()


def dates_refused(response: Response) -> bool:
    """Whether a tenant's list has no window of ``lastUpdate``."""
    return response.status == 400 and b"lastUpdate" in response.body and b"returnFields" not in response.body


def detected_at(record: Any) -> datetime | None:
    """When it was detected; None where that cannot be read."""
    return _instant_of(record, "detectionTime", "triggered_at")


def _instant_of(record: Any, *names: str) -> datetime | None:
    record = unwrap(record)
    found = next((record[name] for name in names if name in record), None) if isinstance(record, dict) else None
    try:
        return _INSTANT.validate_python(found)
    except ValidationError:
        return None


def is_outside(records: Sequence[Any], start_at: datetime, end_at: datetime) -> bool:
    """Whether some of what was asked for by last update was last updated at another time."""
    return any(
        not start_at - UPDATE_SLACK <= found <= end_at + UPDATE_SLACK
        for record in records
        if (found := _instant_of(record, "lastUpdate"))
    )


def is_open(record: Any) -> bool:
    record = unwrap(record)
    status = record.get("status") if isinstance(record, dict) else None
    return not (isinstance(status, str) and status.strip().casefold() in DONE)


def in_window(record: Any, start_at: datetime, end_at: datetime) -> bool:
    """Whether it was detected in ``[start_at, end_at)``; a record without a readable time stays, to be named."""
    found = detected_at(record)
    return found is None or start_at <= found < end_at
