"""MISP's attribute search without I/O. Field names are MISP's.

https://www.misp-project.org/openapi/#tag/Attributes/operation/restSearchAttributes
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from typing import Any

from pydantic import Field, ValidationError

from include.soar.extract.values import KINDS
from include.soar.model import Answer, Instant, Observable, ObservableType, Reputation
from include.soar.vendor.errors import Unexpected, one_line
from include.soar.vendor.lenient import Cosmetic, CosmeticRows, Digits
from include.soar.vendor.wire import Request, Response, VendorShape, decode, first_problem

VENDOR = "misp"
TIMEOUT_SECONDS = 60.0
LARGEST_BYTES = 64 * 2**20

#: A refusal that may be about one value of the list. Any other 4xx is about the server, the key or the role.
VALUE_STATUSES = (400, 413, 422)

_ADDRESS = ("ip-src", "ip-dst", "ip-src|port", "ip-dst|port", "domain|ip")
_HASHES = ("md5", "sha1", "sha256", "sha512")
#: Attribute types that name an observable, by its type. https://www.circl.lu/doc/misp/categories-and-types/
TYPES: dict[ObservableType, tuple[str, ...]] = {
    ObservableType.IPV4: _ADDRESS,
    ObservableType.IPV6: _ADDRESS,
    ObservableType.CIDR: ("ip-src", "ip-dst"),
    ObservableType.DOMAIN: ("domain", "hostname", "domain|ip", "hostname|port"),
    ObservableType.URL: ("url",),
    ObservableType.EMAIL: ("email", "email-src", "email-dst", "email-reply-to"),
    ObservableType.FILE: (*_HASHES, *(f"filename|{name}" for name in _HASHES), "malware-sample"),
}

# Ours: how MISP's words become 0-100. See `score`.
#: By the event's threat level: 1 high, 2 medium, 3 low, 4 undefined.
THREAT_LEVELS = {"1": 90, "2": 75, "3": 50, "4": 60}
UNKNOWN_THREAT_LEVEL = 60
#: The analyst's own confidence, by the taxonomy ``misp``. https://www.misp-project.org/taxonomies.html#_misp
CONFIDENCE_TAGS = {
    'misp:confidence-level="completely-confident"': 100,
    'misp:confidence-level="usually-confident"': 75,
    'misp:confidence-level="fairly-confident"': 50,
    'misp:confidence-level="rarely-confident"': 25,
    'misp:confidence-level="unconfident"': 0,
}
#: At most so much. https://www.misp-project.org/taxonomies.html#_false_positive
FALSE_POSITIVE_TAGS = {
    'false-positive:confirmed="true"': 0,
    'false-positive:risk="high"': 10,
    'false-positive:risk="medium"': 40,
}

# Inferred (MISP's source and other clients, never a live server of ours).
#: How a wrong key is told: with 403, which elsewhere means a missing grant.
NO_SUCH_KEY = b"Authentication failed"
#: How a role without the right to search is told: with 405.
NO_RIGHT_TO_SEARCH = b"not allowed for this user role"
#: Seconds until a role's limit (searches in 15 minutes) is renewed. MISP sends no Retry-After.
RESET_HEADER = "x-rate-limit-reset"
#: How many attributes of this page MISP left out after the query, for a warning list. Older versions do not say it.
SKIPPED_HEADER = "x-skipped-elements-count"

_TECHNIQUE = re.compile(r"misp-galaxy:mitre-[a-z-]*attack-pattern=.*\b(T[0-9]{4}(?:\.[0-9]{3})?)\b")
_MOST_TAGS = 20
#: A server that never comes to an end is broken.
MOST_PAGES = 500
#: A network wider than this is a slip of its author: 0.0.0.0/0 would list everybody.
SHORTEST_PREFIX = {4: 8, 6: 16}


class Tag(VendorShape):
    name: str


class Event(VendorShape):
    # With PHP 8 the numbers of MISP's tables come as numbers, before that as text.
    id: Digits = Field(pattern=r"^[0-9]{1,20}$")
    info: Cosmetic[str] = None
    #: Only with ``includeContext``, and not from every version.
    threat_level_id: Cosmetic[Digits] = None
    date: Cosmetic[str] = None


class Attribute(VendorShape):
    uuid: str
    type: str
    value: str
    # No default: whether to detect by it is what we ask.
    to_ids: bool
    timestamp: Instant
    first_seen: Cosmetic[Instant] = None
    last_seen: Cosmetic[Instant] = None
    #: The event's tags too, with ``includeEventTags``.
    given_tags: CosmeticRows[Tag] = Field(default=(), alias="Tag")
    event: Event = Field(alias="Event")

    @property
    def tags(self) -> list[Tag]:
        return [tag for tag in self.given_tags if tag]


@dataclass(frozen=True)
class Unread:
    """
    An attribute that could not be read: what it names is not known to be clean.

    :param names: what it names; None where that cannot be read either
    """

    uuid: str
    names: frozenset[Observable] | None
    problem: str


class Found(VendorShape):
    # No default: an answer without the list does not say that nothing was found.
    # Each an :class:`Attribute`, read by itself: whoever may publish must not be able to cost all the others.
    attributes: tuple[Any, ...] = Field(alias="Attribute")


class SearchAnswer(VendorShape):
    response: Found


class VersionAnswer(VendorShape):
    version: str


def is_askable(observable: Observable) -> bool:
    """MISP reads a value that begins with ``!`` as "not", and one with ``%`` at an end as a pattern."""
    value = observable.value
    return not value.startswith(("!", "%")) and not value.endswith("%")


def search_request(
    observables: Sequence[Observable],
    *,
    page: int,
    page_size: int,
    published_only: bool,
    warning_lists: bool,
    last: str | None,
) -> Request:
    """
    One page of the attributes that name any of the values.

    :param page: from 1
    :param published_only: leave out events that are still being written
    :param warning_lists: leave out what is on one of the server's warning lists
    :param last: only events that were published within, e.g. ``365d``; None for all
    """
    body = {
        "returnFormat": "json",
        # A list also where it is one value: MISP splits a single text at "&&".
        "value": [observable.value for observable in observables],
        "type": sorted({name for observable in observables for name in TYPES[observable.type]}),
        "to_ids": 1,
        "enforceWarninglist": int(warning_lists),
        "includeEventTags": 1,
        "includeContext": 1,
        "limit": page_size,
        "page": page,
    }
    if published_only:
        body["published"] = 1
    if last:
        body["last"] = last
    return Request(
        "POST",
        "/attributes/restSearch",
        operation="restSearch",
        json=body,
        timeout_seconds=TIMEOUT_SECONDS,
        largest_bytes=LARGEST_BYTES,
    )


def version_request() -> Request:
    return Request("GET", "/servers/getVersion", operation="getVersion", timeout_seconds=TIMEOUT_SECONDS)


def parse_version(response: Response) -> str:
    return decode(VENDOR, "getVersion", VersionAnswer, response.body).version


def parse_page(response: Response) -> tuple[Attribute | Unread, ...]:
    """
    :raises Unexpected: also when of not one attribute can be read whom it names: that is another MISP than we know. One
        that somebody has published alone must not cost the other values that were asked about
    """
    given = decode(VENDOR, "restSearch", SearchAnswer, response.body).response.attributes
    found = tuple(_attribute(one) for one in given)
    problems = [one.problem for one in found if isinstance(one, Unread) and one.names is None]
    if found and len(problems) == len(found):
        raise Unexpected(VENDOR, "restSearch", f"answer is not as documented: response.Attribute: {problems[0]}")
    return found


def _attribute(given: Any) -> Attribute | Unread:
    try:
        return Attribute.model_validate(given)
    except ValidationError as error:
        problem = first_problem(error)
    raw = given if isinstance(given, dict) else {}
    kind, value, uuid = raw.get("type"), raw.get("value"), raw.get("uuid")
    if not isinstance(uuid, str):
        uuid = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
    if raw.get("to_ids") is False:
        return Unread(uuid, frozenset(), problem)
    if isinstance(kind, str) and isinstance(value, str):
        return Unread(uuid, frozenset(_named_by(kind, value)), problem)
    return Unread(uuid, None, problem)


def is_last_page(response: Response, found: int, *, page_size: int) -> bool:
    """
    Whether there is nothing after this page. MISP takes away what warning lists name after it cut the page, so a
    short page may have successors; an older MISP does not say how many it took away, and is asked until a page is
    empty.
    """
    skipped = response.headers.get(SKIPPED_HEADER, "")
    if skipped.isascii() and skipped.isdigit():
        return found + int(skipped) < page_size
    return found == 0


def with_retry_after(response: Response) -> Response:
    """MISP's 429 as the other vendors': its reset is in seconds."""
    seconds = response.headers.get(RESET_HEADER)
    if response.status != 429 or seconds is None or "retry-after" in response.headers:
        return response
    return replace(response, headers={**response.headers, "retry-after": seconds})


def is_unknown_key(response: Response) -> bool:
    return response.status == 403 and NO_SUCH_KEY in response.body


def may_not_search(response: Response) -> bool:
    return response.status == 405 and NO_RIGHT_TO_SEARCH in response.body


def score(attribute: Attribute) -> int:
    """
    0-100: what the analyst says of the confidence, else by the event's threat level; at most what a tag of the
    taxonomy ``false-positive`` leaves of it. A weak mapping, since MISP has no score: most of it is the policy's.
    """
    tags = [tag.name for tag in attribute.tags]
    stated = [CONFIDENCE_TAGS[name] for name in tags if name in CONFIDENCE_TAGS]
    # The attribute's own tags come before the event's.
    level = THREAT_LEVELS.get(attribute.event.threat_level_id or "", UNKNOWN_THREAT_LEVEL)
    return min([stated[0] if stated else level, *(most for name, most in FALSE_POSITIVE_TAGS.items() if name in tags)])


def reputations(
    observables: Sequence[Observable],
    attributes: Iterable[Attribute | Unread],
    *,
    body_digest: str,
    page_of: Callable[[str], str],
    known_at: datetime,
) -> list[Reputation]:
    """
    One answer for each of the values. What the server found beyond them (its database compares without regard to
    case) and attributes that are not for detection do not count. A value that only an attribute names that could not
    be read is an error, never "not listed".

    :param page_of: event id -> the event's page, for a person
    """
    named: dict[Observable, dict[str, Attribute]] = {observable: {} for observable in observables}
    doubts: dict[Observable, str] = {}
    for attribute in attributes:
        if isinstance(attribute, Unread):
            doubtful = named if attribute.names is None else _among(named, attribute.names)
            doubts |= dict.fromkeys(doubtful, attribute.problem)
        elif attribute.to_ids:
            for observable in _among(named, _named_by(attribute.type, attribute.value)):
                named[observable][attribute.uuid] = attribute
    said = []
    for observable, found in named.items():
        one = _reputation(observable, list(found.values()), body_digest=body_digest, page_of=page_of, known_at=known_at)
        if not one.score and observable in doubts:
            summary = one_line(f"an attribute that names it cannot be read: {doubts[observable]}")
            one = Reputation(
                observable=observable, provider=VENDOR, answer=Answer.ERROR, summary=summary, known_at=known_at
            )
        said.append(one)
    return said


def _among(asked: Iterable[Observable], named: Iterable[Observable]) -> set[Observable]:
    """Which of the values asked about an attribute names. A network names the addresses in it."""
    exact = set(named)
    networks = [ipaddress.ip_network(one.value) for one in exact if one.type is ObservableType.CIDR]
    networks = [one for one in networks if one.prefixlen >= SHORTEST_PREFIX[one.version]]
    found = exact.intersection(asked)
    if networks:
        addresses = {one: ipaddress.ip_address(one.value) for one in asked if one.is_address}
        found |= {one for one, address in addresses.items() if any(address in network for network in networks)}
    return found


def _named_by(attribute_type: str, value: str) -> set[Observable]:
    parts = value.split("|") if "|" in attribute_type or attribute_type == "malware-sample" else [value]
    return {
        observable
        for kind, types in TYPES.items()
        if attribute_type in types
        for part in parts
        if (observable := KINDS[kind].parse(part)) and observable.type is kind
    }


def _reputation(
    observable: Observable,
    attributes: list[Attribute],
    *,
    body_digest: str,
    page_of: Callable[[str], str],
    known_at: datetime,
) -> Reputation:
    # The worst first, then the newest.
    attributes.sort(key=lambda attribute: (-score(attribute), -attribute.timestamp.timestamp(), attribute.uuid))
    worst = score(attributes[0]) if attributes else 0
    listed = worst > 0
    tags = list(dict.fromkeys(tag.name for attribute in attributes for tag in attribute.tags))
    events = list(dict.fromkeys(attribute.event.id for attribute in attributes))
    return Reputation(
        observable=observable,
        provider=VENDOR,
        answer=Answer.LISTED if listed else Answer.NOT_LISTED,
        score=worst,
        summary=_summary(attributes, len(events)),
        reference=page_of(events[0]) if events else None,
        # What says who may see it comes first, so that it is never the one that is cut.
        tags=tuple(sorted(map(one_line, tags), key=lambda name: not name.lower().startswith(("tlp:", "pap:"))))[
            :_MOST_TAGS
        ],
        techniques=tuple(sorted({match[1] for name in tags if (match := _TECHNIQUE.match(name))})),
        first_reported_at=min(filter(None, map(_first_seen, attributes)), default=None),
        last_reported_at=max((a.last_seen or a.timestamp for a in attributes), default=None),
        body_digest=body_digest,
        known_at=known_at,
    )


def _summary(attributes: Sequence[Attribute], events: int) -> str:
    if not attributes:
        return "no attribute for detection"
    first = one_line(attributes[0].event.info or "(no title)", 120)
    return f"{attributes[0].type} in {events} event{'s' * (events > 1)}: {first}" + (
        " and others" if events > 1 else ""
    )


def _first_seen(attribute: Attribute) -> datetime | None:
    """When it was first seen, else the day that the event is about."""
    if attribute.first_seen:
        return attribute.first_seen
    try:
        day = date.fromisoformat(attribute.event.date or "")
    except ValueError:
        return None
    return datetime.combine(day, time(), UTC)
