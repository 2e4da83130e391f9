"""TAXII 2.1 and the STIX 2.1 and 2.0 in it, without I/O. Field names are the standards'.

https://docs.oasis-open.org/cti/taxii/v2.1/os/taxii-v2.1-os.html
https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html

A collection is downloaded into a *state*: one reduced record per STIX object, by id, of which the newest version
counts. ``index.py`` looks values up in it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, Any
from urllib.parse import quote, urljoin, urlsplit

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from include.soar.extract.records import load_records
from include.soar.model import Instant
from include.soar.vendor.errors import Unexpected, one_line
from include.soar.vendor.lenient import Cosmetic, CosmeticRows, Digits, Labels, Rows
from include.soar.vendor.wire import Request, Response, VendorShape, decode
from threat_response.vendors.taxii.pattern import read_pattern

VENDOR = "taxii"
MEDIA_TYPE = "application/taxii+json"
#: Some servers name the type of what is in the envelope instead
#: (https://github.com/center-for-threat-informed-defense/attack-workbench-taxii-server/issues/17).
MEDIA_TYPES = (MEDIA_TYPE, "application/stix+json")
ACCEPT = f"{MEDIA_TYPE};version=2.1"
DISCOVERY_PATH = "/taxii2/"
TIMEOUT_SECONDS = 60.0
LARGEST_BYTES = 64 * 2**20

#: So often a collection is read anew, not only what was added, so that deletions are seen.
FULL_AFTER = timedelta(days=7)
#: A server that never comes to an end is broken.
MOST_PAGES = 10_000
#: Of all pages of one reading. Only what can be looked up is kept of them.
LARGEST_READING = 2**31
#: What is read of a collection. The others give an indicator its techniques and names, through ``indicates``.
MEANINGS = ("attack-pattern", "campaign", "intrusion-set", "malware", "threat-actor", "tool")
TYPES = ("indicator", "relationship", *MEANINGS)

#: The cursor keeps so far behind the present: what the server adds with a time that is not past yet, or only counts in
#: whole seconds, is read again instead of passed over.
SETTLING = timedelta(minutes=1)
#: A collection that lost more percent than this of the former copy is more likely broken than cleaned.
LARGEST_LOSS = 50
#: An indicator that ended longer ago than this is forgotten.
LAPSED_KEPT = timedelta(days=30)

# Ours: how STIX's words become 0-100. See `score`.
#: ``indicator_types`` (STIX 2.0: ``labels``); of several the worst counts.
#: https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html#_cvhfwe3t9vuo
TYPE_WEIGHTS = {
    "malicious-activity": 100,
    "compromised": 90,
    "attribution": 80,
    "anomalous-activity": 60,
    "unknown": 60,
    "anonymization": 40,
    "benign": 0,
}
#: None given, or a word of the producer's own.
OTHER_WEIGHT = 80
#: STIX says that an indicator without a confidence has an unspecified one.
UNSPECIFIED_CONFIDENCE = 75

#: STIX 2.1 section 7.2.1.4 (TLP 1.0), and OASIS' TLP 2.0 extension
#: (https://github.com/oasis-open/cti-stix-common-objects).
TLP = {
    "marking-definition--613f2e26-407d-48c7-9eca-b8e91df99dc9": "tlp:white",
    "marking-definition--34098fce-860f-48ae-8e50-ebd3cc5e41da": "tlp:green",
    "marking-definition--f88d31f6-486f-44da-b317-01333bde0b82": "tlp:amber",
    "marking-definition--5e57c739-391a-4eb3-b6be-7d15ca92d5ed": "tlp:red",
    "marking-definition--94868c89-83c2-464b-929b-a1a8aa3c8487": "tlp:clear",
    "marking-definition--bab4a63c-aed9-4cf5-a766-dfca5abac2bb": "tlp:green",
    "marking-definition--55d920b0-5e8b-4f79-9ee9-91f868d9b421": "tlp:amber",
    "marking-definition--939a9414-2ddd-4d32-a0cd-375ea402b003": "tlp:amber+strict",
    "marking-definition--e828b379-4e03-4974-9ac4-e53a884c97c1": "tlp:red",
}
_TECHNIQUE = re.compile(r"T[0-9]{4}(?:\.[0-9]{3})?")
_MITRE_SOURCES = ("mitre-attack", "mitre-mobile-attack", "mitre-ics-attack")
_ROOT = re.compile(r"/[A-Za-z0-9._~%/@:+-]*")
_LONGEST_NAME = 120

#: A reduced object: ``id``, ``type``, ``modified``, ``revoked`` and what its type needs.
Record = dict[str, Any]
State = dict[str, Record]


# --- TAXII --------------------------------------------------------------------------------------------------


class Discovery(VendorShape):
    title: Cosmetic[str] = None
    default: str | None = None
    api_roots: tuple[str, ...] = ()


class CollectionInfo(VendorShape):
    id: str = Field(min_length=1)
    given_title: Cosmetic[str] = Field(default=None, alias="title")
    can_read: bool

    @property
    def title(self) -> str:
        return self.given_title or self.id


class Collections(VendorShape):
    #: An API root without any answers ``{}``.
    collections: Rows[CollectionInfo] = ()


class Envelope(VendorShape):
    #: A collection without any answers ``{}``.
    objects: Rows[Any] = ()
    given_more: bool | None = Field(default=None, alias="more")
    #: Opaque to the client (section 3.5), and a number at some servers: its digits are sent back.
    next: Digits | None = None

    @property
    def more(self) -> bool:
        """Null where a server has no word for it: what then says ``next`` has more."""
        return bool(self.next) if self.given_more is None else self.given_more


@dataclass(frozen=True)
class Collection:
    """:param root: path of its API root, with slashes around it"""

    root: str
    id: str
    title: str


def discovery_request(path: str) -> Request:
    return _get(path, "discovery")


def collections_request(root: str) -> Request:
    return _get(f"{root}collections/", "collections")


def objects_request(collection: Collection, *, added_after: str | None, next_page: str | None, limit: int) -> Request:
    """
    :param added_after: as a server spelled it in ``X-TAXII-Date-Added-Last``; None for all
    :param next_page: the former page's ``next``; goes with the same ``added_after`` and ``limit``
    """
    params = [("limit", str(limit)), ("match[type]", ",".join(TYPES))]
    if added_after:
        params.append(("added_after", added_after))
    if next_page:
        params.append(("next", next_page))
    return _get(f"{collection.root}collections/{quote(collection.id, safe='')}/objects/", "objects", tuple(params))


class Paging:
    """Where the reading of a collection is. It ends: at the last page, or where a server only repeats itself."""

    def __init__(self, added_after: str | None) -> None:
        self._added_after = added_after
        self._next: str | None = None
        self._tokens: set[str] = set()
        self._known: set[tuple[str, str]] = set()

    def request(self, collection: Collection, *, limit: int) -> Request:
        return objects_request(collection, added_after=self._added_after, next_page=self._next, limit=limit)

    def go_on(self, page: Envelope, reached: str | None) -> None:
        """
        To the page behind this one.

        :param reached: what the page says of its last object
        :raises Unexpected: it does not say where that is, or names one that was read
        """
        versions = {(str(one.get("id")), str(one.get("modified"))) for one in page.objects if isinstance(one, dict)}
        if page.next is None:
            # TAXII 2.1 section 3.5: without `next` a client goes on behind the last object's time.
            if reached in (None, self._added_after):
                raise Unexpected(VENDOR, "objects", "says that there is more, and does not say where")
            self._added_after = reached
        elif page.next in self._tokens and self._known >= versions:
            # The same `next` alone is no end: medallion has one for all pages of a reading.
            raise Unexpected(VENDOR, "objects", "names a next page that it has given already")
        else:
            self._tokens.add(page.next)
        self._known |= versions
        self._next = page.next


def _get(path: str, operation: str, params: tuple[tuple[str, str], ...] = ()) -> Request:
    return Request(
        "GET",
        path,
        operation=operation,
        params=params,
        headers={"Accept": ACCEPT},
        timeout_seconds=TIMEOUT_SECONDS,
        largest_bytes=LARGEST_BYTES,
    )


def check_media_type(operation: str, response: Response) -> None:
    """
    :raises Unexpected: what answers is no TAXII 2.1: a proxy's page, or an older TAXII
    """
    given = response.headers.get("content-type", "")
    kind, _, parameters = given.partition(";")
    other_version = "version=" in parameters and "version=2.1" not in parameters.replace(" ", "")
    if kind.strip().lower() not in MEDIA_TYPES or other_version:
        problem = f"the answer is {one_line(given, 80) or 'of no stated type'}, not {ACCEPT}"
        raise Unexpected(VENDOR, operation, problem, status=response.status)


def parse_discovery(response: Response) -> Discovery:
    return decode(VENDOR, "discovery", Discovery, response.body)


def parse_collections(root: str, response: Response) -> tuple[list[Collection], list[str]]:
    """The collections that may be read, and the titles of those that may not."""
    found = decode(VENDOR, "collections", Collections, response.body).collections
    readable = [Collection(root, info.id, info.title) for info in found if info.can_read]
    return readable, [info.title for info in found if not info.can_read]


def parse_envelope(response: Response) -> Envelope:
    # Who may publish in a collection must not keep the others from being read.
    return decode(VENDOR, "objects", Envelope, load_records(VENDOR, "objects", response.body))


def root_path(named: str, *, url: str, discovery_path: str = DISCOVERY_PATH) -> str:
    """
    The path below ``url`` of an API root that a server or a person named, as a URL or a path. The host in it is not
    followed: our credentials belong to the connection's host alone.

    :param url: the connection's, without a slash at its end
    :raises Unexpected: it is outside of the connection's path
    """
    below = urlsplit(url).path.rstrip("/")
    path = urlsplit(urljoin(url + discovery_path, named)).path.rstrip("/") + "/"
    if not _ROOT.fullmatch(path) or not path.startswith(f"{below}/"):
        raise Unexpected(
            VENDOR, "discovery", f"the API root {one_line(path, 80)} lies outside of the connection's host"
        )
    return path.removeprefix(below)


def is_elsewhere(named: str, *, url: str) -> bool:
    """Whether a server names another host than the one we ask."""
    return urlsplit(urljoin(f"{url}/", named))[:2] != urlsplit(url)[:2]


def date_added_last(response: Response) -> str | None:
    """
    When the last object of a page was added, as the server spells it; in the standard's spelling where the server has
    one of its own. Only to be asked of a page that has an object.

    :raises Unexpected: it is not a time
    """
    text = response.headers.get("x-taxii-date-added-last")
    if text is None:
        return None
    try:
        return _cursor_text(_spoken(text))
    except (ValueError, OverflowError):
        _instant(text)
        return text


def _spoken(text: str) -> datetime:
    """``Tue Nov 24 2026 10:00:00 GMT+0000 (Coordinated Universal Time)``, as JavaScript writes it, or an HTTP date."""
    plain = text.partition(" (")[0].strip()
    try:
        return datetime.strptime(plain, "%a %b %d %Y %H:%M:%S GMT%z")
    except ValueError:
        pass
    moment = parsedate_to_datetime(plain)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _cursor_text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def cursor(before: str | None, last: str | None, *, now: datetime) -> str | None:
    """Where the next reading goes on: at the last object added, but neither in the present nor before ``before``."""
    if last is None:
        return before
    settled = now - SETTLING
    reached = last if _instant(last) <= settled else _cursor_text(settled)
    return reached if before is None or _instant(reached) > _instant(before) else before


_INSTANT = TypeAdapter(Instant)


def _instant(text: str) -> datetime:
    try:
        return _INSTANT.validate_python(text)
    except ValidationError:
        raise Unexpected(VENDOR, "objects", "X-TAXII-Date-Added-Last is not a time") from None


# --- STIX -> records ----------------------------------------------------------------------------------------


def _written(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("not a timestamp of STIX, which is text")
    return value


#: A number would be read as seconds or as milliseconds, by its size.
Timestamp = Annotated[Instant, BeforeValidator(_written)]


class ExternalReference(VendorShape):
    source_name: str
    external_id: Cosmetic[str] = None


class KillChainPhase(VendorShape):
    kill_chain_name: str
    phase_name: str


class Versioned(VendorShape):
    id: str
    modified: Timestamp
    revoked: bool = False


class Indicator(Versioned):
    pattern: str
    #: STIX 2.0 knows no other language.
    pattern_type: str = "stix"
    created: Cosmetic[Instant] = None
    valid_from: Timestamp
    valid_until: Timestamp | None = None
    confidence: int | None = Field(default=None, ge=0, le=100, strict=True)
    name: Cosmetic[str] = None
    labels: Labels = ()
    indicator_types: Labels = ()
    kill_chain_phases: CosmeticRows[KillChainPhase] = ()
    external_references: CosmeticRows[ExternalReference] = ()
    object_marking_refs: Labels = ()


class Meaning(Versioned):
    name: Cosmetic[str] = None
    external_references: CosmeticRows[ExternalReference] = ()


class Relationship(Versioned):
    relationship_type: str
    source_ref: str
    target_ref: str


def merge(state: State, objects: Iterable[Any]) -> int:
    """
    Take objects into a state: of each id the newest version stays, a revoked one as the mark that it is revoked.

    :return: how many objects had no id, and so could not be kept even as unreadable
    """
    nameless = 0
    for stix in objects:
        if not isinstance(stix, dict) or not isinstance(stix.get("id"), str):
            nameless += 1
        elif (record := _record(stix)) and record["modified"] >= state.get(record["id"], {}).get("modified", ""):
            state[record["id"]] = record
    return nameless


def _record(stix: dict[str, Any]) -> Record | None:
    """None for what is not read."""
    kind = stix["id"].partition("--")[0]
    try:
        if kind == "indicator":
            return _indicator(Indicator.model_validate(stix))
        if kind == "relationship":
            return _relationship(Relationship.model_validate(stix))
        if kind in MEANINGS:
            return _meaning(kind, Meaning.model_validate(stix))
    except ValidationError as error:
        if kind != "indicator":
            return None
        field = ".".join(str(part) for part in error.errors(include_input=False, include_url=False)[0]["loc"][:1])
        problem = f"indicator without a valid {field}"
        return {
            **{"id": stix["id"], "type": kind, "modified": "", "revoked": False, "named": [], "problems": [problem]},
            "unread": _values(stix.get("pattern")),
        }
    return None


def _values(pattern: Any) -> list[str]:
    """Every value that a pattern has in it, by key: of none of them is known that it is clean."""
    reading = read_pattern(pattern) if isinstance(pattern, str) else None
    return [observable.key for observable in (*reading.named, *reading.unread)] if reading else []


def _basics(kind: str, stix: Versioned) -> Record:
    return {"id": stix.id, "type": kind, "modified": text_of(stix.modified), "revoked": stix.revoked}


def _indicator(stix: Indicator) -> Record:
    record = _basics("indicator", stix)
    if stix.revoked:
        return record
    named, problems, unread = [], [f"pattern_type {stix.pattern_type}"], []
    if stix.pattern_type.lower() == "stix":
        reading = read_pattern(stix.pattern)
        named, problems = [observable.key for observable in reading.named], list(reading.problems)
        unread = [observable.key for observable in reading.unread]
    # STIX 2.0 has them among the labels.
    types = stix.indicator_types or tuple(label for label in stix.labels if label in TYPE_WEIGHTS)
    marks = sorted({TLP[ref] for ref in stix.object_marking_refs if ref in TLP})
    phases = [f"{phase.kill_chain_name}:{phase.phase_name}" for phase in stix.kill_chain_phases if phase]
    return {
        **record,
        "named": named,
        "problems": [one_line(problem, 80) for problem in problems],
        "unread": unread,
        "created": text_of(stix.created) if stix.created else None,
        "valid_from": text_of(stix.valid_from),
        "valid_until": text_of(stix.valid_until) if stix.valid_until else None,
        "score": score(types, stix.confidence),
        "name": one_line(stix.name or "", _LONGEST_NAME),
        "tags": [one_line(tag, _LONGEST_NAME) for tag in dict.fromkeys([*marks, *types, *stix.labels, *phases])],
        "techniques": _techniques(stix.external_references),
    }


def _relationship(stix: Relationship) -> Record | None:
    if stix.relationship_type != "indicates" or not stix.source_ref.startswith("indicator--"):
        return None
    return {**_basics("relationship", stix), "source": stix.source_ref, "target": stix.target_ref}


def _meaning(kind: str, stix: Meaning) -> Record:
    return {
        **_basics(kind, stix),
        "name": one_line(stix.name or stix.id, _LONGEST_NAME),
        "techniques": _techniques(stix.external_references),
    }


def _techniques(references: Iterable[ExternalReference | None]) -> list[str]:
    return [
        reference.external_id
        for reference in references
        if reference
        and reference.source_name in _MITRE_SOURCES
        and reference.external_id
        and _TECHNIQUE.fullmatch(reference.external_id)
    ]


def text_of(instant: datetime) -> str:
    """Of one width, so that the order of texts is that of the times."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def score(types: Sequence[str], confidence: int | None) -> int:
    """0-100: how bad the indicator's types are, times how sure its producer is."""
    weight = max((TYPE_WEIGHTS.get(word, OTHER_WEIGHT) for word in types), default=OTHER_WEIGHT)
    return round(weight * (UNSPECIFIED_CONFIDENCE if confidence is None else confidence) / 100)


def forget_lapsed(state: State, *, now: datetime) -> State:
    """Without the indicators that ended long ago."""
    limit = text_of(now - LAPSED_KEPT)
    return {id_: r for id_, r in state.items() if not r.get("valid_until") or r["valid_until"] > limit}


class Counts(BaseModel):
    """
    :param indicators: those that are not revoked
    :param readable: those of them that name at least one value
    :param unreadable: what could not be read, by name, most frequent first; an indicator may count here too
    """

    indicators: int
    readable: int
    unreadable: dict[str, int]


def count(state: Mapping[str, Record]) -> Counts:
    current = [r for r in state.values() if r["type"] == "indicator" and not r["revoked"]]
    problems = Counter(problem for record in current for problem in record["problems"])
    return Counts(
        indicators=len(current),
        readable=sum(bool(record["named"]) for record in current),
        unreadable=dict(problems.most_common(20)),
    )


def dump(state: Mapping[str, Record]) -> bytes:
    """The state as JSON lines, the same bytes for the same state."""
    lines = (json.dumps(state[id_], sort_keys=True, separators=(",", ":")) for id_ in sorted(state))
    return "\n".join(lines).encode()


def load(content: bytes) -> State:
    return {record["id"]: record for record in map(json.loads, content.splitlines())}
