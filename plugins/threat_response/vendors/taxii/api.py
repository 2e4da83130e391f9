"""TAXII 2.1 and the STIX 2.1 and 2.0 in it, without I/O. Field names are the standards'.

https://docs.oasis-open.org/cti/taxii/v2.1/os/taxii-v2.1-os.html
https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html

A collection is downloaded into a *state*: one reduced record per STIX object, by id, of which the newest version
counts. What can be looked up in it is an :class:`Index`.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError

from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor.errors import Unexpected, one_line
from include.soar.vendor.wire import Request, Response, VendorShape, decode
from threat_response.vendors.taxii.pattern import read_pattern

VENDOR = "taxii"
MEDIA_TYPE = "application/taxii+json"
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
_MOST_TAGS = 20
_LONGEST_NAME = 120

#: A reduced object: ``id``, ``type``, ``modified``, ``revoked`` and what its type needs.
Record = dict[str, Any]
State = dict[str, Record]


# --- TAXII --------------------------------------------------------------------------------------------------


class Discovery(VendorShape):
    title: str
    default: str | None = None
    api_roots: tuple[str, ...] = ()


class CollectionInfo(VendorShape):
    id: str = Field(min_length=1)
    title: str
    can_read: bool


class Collections(VendorShape):
    #: An API root without any answers ``{}``.
    collections: tuple[CollectionInfo, ...] = ()


class Envelope(VendorShape):
    #: A collection without any answers ``{}``.
    objects: tuple[Any, ...] = ()
    more: bool = False
    next: str | None = None


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
    if kind.strip().lower() != MEDIA_TYPE or other_version:
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
    return decode(VENDOR, "objects", Envelope, response.body)


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
    When the last object of a page was added, as the server spells it.

    :raises Unexpected: it is not a time
    """
    text = response.headers.get("x-taxii-date-added-last")
    if text is None:
        return None
    _instant(text)
    return text


def cursor(before: str | None, last: str | None, *, now: datetime) -> str | None:
    """Where the next reading goes on: at the last object added, but neither in the present nor before ``before``."""
    if last is None:
        return before
    settled = now - SETTLING
    reached = last if _instant(last) <= settled else settled.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return reached if before is None or _instant(reached) > _instant(before) else before


_INSTANT = TypeAdapter(AwareDatetime)


def _instant(text: str) -> datetime:
    try:
        return _INSTANT.validate_python(text)
    except ValidationError:
        raise Unexpected(VENDOR, "objects", "X-TAXII-Date-Added-Last is not a time") from None


# --- STIX -> records ----------------------------------------------------------------------------------------


class ExternalReference(VendorShape):
    source_name: str
    external_id: str | None = None


class KillChainPhase(VendorShape):
    kill_chain_name: str
    phase_name: str


class Versioned(VendorShape):
    id: str
    modified: AwareDatetime
    revoked: bool = False


class Indicator(Versioned):
    pattern: str
    #: STIX 2.0 knows no other language.
    pattern_type: str = "stix"
    created: AwareDatetime
    valid_from: AwareDatetime
    valid_until: AwareDatetime | None = None
    confidence: int | None = Field(default=None, ge=0, le=100)
    name: str = ""
    labels: tuple[str, ...] = ()
    indicator_types: tuple[str, ...] = ()
    kill_chain_phases: tuple[KillChainPhase, ...] = ()
    external_references: tuple[ExternalReference, ...] = ()
    object_marking_refs: tuple[str, ...] = ()


class Meaning(Versioned):
    name: str
    external_references: tuple[ExternalReference, ...] = ()


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
        return {"id": stix["id"], "type": kind, "modified": "", "revoked": False, "named": [], "problems": [problem]}
    return None


def _basics(kind: str, stix: Versioned) -> Record:
    return {"id": stix.id, "type": kind, "modified": _text(stix.modified), "revoked": stix.revoked}


def _indicator(stix: Indicator) -> Record:
    record = _basics("indicator", stix)
    if stix.revoked:
        return record
    if stix.pattern_type.lower() == "stix":
        reading = read_pattern(stix.pattern)
        named, problems = [observable.key for observable in reading.named], list(reading.problems)
    else:
        named, problems = [], [f"pattern_type {stix.pattern_type}"]
    # STIX 2.0 has them among the labels.
    types = stix.indicator_types or tuple(label for label in stix.labels if label in TYPE_WEIGHTS)
    marks = sorted({TLP[ref] for ref in stix.object_marking_refs if ref in TLP})
    phases = [f"{phase.kill_chain_name}:{phase.phase_name}" for phase in stix.kill_chain_phases]
    return {
        **record,
        "named": named,
        "problems": [one_line(problem, 80) for problem in problems],
        "created": _text(stix.created),
        "valid_from": _text(stix.valid_from),
        "valid_until": _text(stix.valid_until) if stix.valid_until else None,
        "score": score(types, stix.confidence),
        "name": one_line(stix.name, _LONGEST_NAME),
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
        "name": one_line(stix.name, _LONGEST_NAME),
        "techniques": _techniques(stix.external_references),
    }


def _techniques(references: Iterable[ExternalReference]) -> list[str]:
    return [
        reference.external_id
        for reference in references
        if reference.source_name in _MITRE_SOURCES
        and reference.external_id
        and _TECHNIQUE.fullmatch(reference.external_id)
    ]


def _text(instant: datetime) -> str:
    """Of one width, so that the order of texts is that of the times."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def score(types: Sequence[str], confidence: int | None) -> int:
    """0-100: how bad the indicator's types are, times how sure its producer is."""
    weight = max((TYPE_WEIGHTS.get(word, OTHER_WEIGHT) for word in types), default=OTHER_WEIGHT)
    return round(weight * (UNSPECIFIED_CONFIDENCE if confidence is None else confidence) / 100)


def forget_lapsed(state: State, *, now: datetime) -> State:
    """Without the indicators that ended long ago."""
    limit = _text(now - LAPSED_KEPT)
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


# --- looking up ---------------------------------------------------------------------------------------------


class Index:
    """What several collections say, by value. Networks name every address in them, everything else is exact."""

    def __init__(self, states: Iterable[Mapping[str, Record]]) -> None:
        self._exact: dict[str, list[Record]] = {}
        #: family -> prefix length -> the address's first bits -> indicators
        self._networks: dict[int, dict[int, dict[int, list[Record]]]] = {4: {}, 6: {}}
        self._meanings: dict[str, list[Record]] = {}
        for state in states:
            self._add(state)

    def _add(self, state: Mapping[str, Record]) -> None:
        for record in state.values():
            if record["revoked"]:
                continue
            if record["type"] == "indicator":
                for key in record["named"]:
                    self._name(key, record)
            elif record["type"] == "relationship":
                target = state.get(record["target"])
                if target and not target["revoked"] and target["type"] in MEANINGS:
                    self._meanings.setdefault(record["source"], []).append(target)

    def _name(self, key: str, record: Record) -> None:
        kind, _, value = key.partition(":")
        if kind == ObservableType.CIDR.value:
            network = ipaddress.ip_network(value)
            first = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
            lengths = self._networks[network.version].setdefault(network.prefixlen, {})
            lengths.setdefault(first, []).append(record)
        else:
            self._exact.setdefault(key, []).append(record)

    def look_up(self, observable: Observable) -> list[Record]:
        """Every indicator that names the observable, whether it is in force or not."""
        found = list(self._exact.get(observable.key, ()))
        if observable.is_address or observable.type is ObservableType.CIDR:
            network = ipaddress.ip_network(observable.value)
            bits, address = network.max_prefixlen, int(network.network_address)
            for length, rows in self._networks[network.version].items():
                if length <= network.prefixlen:
                    found += rows.get(address >> (bits - length), ())
        # One that stands in two collections, or names an address and its network, is one: the newest version of it.
        return list({record["id"]: record for record in sorted(found, key=lambda r: str(r["modified"]))}.values())

    def reputation(
        self, observable: Observable, *, body_digest: str, doubts: Sequence[str], known_at: datetime
    ) -> Reputation:
        """
        Listed where an indicator in force names it, whatever else is in doubt. Not listed only where nothing is.

        :param body_digest: that of the copies that were looked in
        :param doubts: of which collections the silence is no answer, and why
        """
        now = _text(known_at)
        named = self.look_up(observable)
        valid = [r for r in named if r["valid_from"] <= now and (not r["valid_until"] or now < r["valid_until"])]
        valid.sort(key=lambda r: (-r["score"], r["id"]))
        worst = valid[0]["score"] if valid else 0
        meanings = [meaning for record in valid for meaning in self._meanings.get(record["id"], ())]
        tags = [tag for r in valid for tag in r["tags"]] + [m["name"] for m in meanings if not m["techniques"]]
        techniques = {technique for r in [*valid, *meanings] for technique in r["techniques"]}
        summary = "; ".join([_summary(valid, lapsed=len(named) - len(valid)), *doubts])
        if not worst and doubts:
            return Reputation(
                observable=observable,
                provider=VENDOR,
                answer=Answer.NOT_CHECKED,
                summary=one_line(summary),
                body_digest=body_digest,
                known_at=known_at,
            )
        return Reputation(
            observable=observable,
            provider=VENDOR,
            answer=Answer.LISTED if worst > 0 else Answer.NOT_LISTED,
            score=worst,
            summary=one_line(summary, 500),
            # What says who may see it comes first, so that it is never the one that is cut.
            tags=tuple(sorted(dict.fromkeys(tags), key=lambda tag: not tag.startswith("tlp:")))[:_MOST_TAGS],
            techniques=tuple(sorted(techniques)),
            first_reported_at=min((datetime.fromisoformat(r["created"]) for r in valid), default=None),
            last_reported_at=max((datetime.fromisoformat(r["modified"]) for r in valid), default=None),
            body_digest=body_digest,
            known_at=known_at,
        )


def doubt(reference: Mapping[str, Any], *, now: datetime, stale_after: timedelta) -> str:
    """Why a collection's silence is no answer; empty where it is one."""
    title = one_line(reference["title"], 80)
    if reference["uri"] is None:
        return f"{title} could not be read: {reference['problem']}"
    read_at = datetime.fromisoformat(reference["fetched_at"])
    return f"{title} is stale: last read at {read_at:%Y-%m-%d %H:%M}Z" if now - read_at >= stale_after else ""


def _summary(valid: Sequence[Record], *, lapsed: int) -> str:
    outdated = f"{lapsed} not in force now" if lapsed else ""
    if not valid:
        return f"no indicator in force ({outdated})" if lapsed else "no indicator"
    names = "; ".join(dict.fromkeys(record["name"] or record["id"] for record in valid[:3]))
    return f"{len(valid)} indicator{'s' * (len(valid) > 1)}: {names}{f' ({outdated})' if lapsed else ''}"
