"""Splunk's KV store without I/O. https://docs.splunk.com/Documentation/Splunk/latest/RESTREF/RESTkvstore

The watchlist is a collection with one document an observable, keyed by it, so that writing twice changes nothing.
A document never expires by itself: a search has to compare ``expires_at``, and a sweep removes ours that have ended.

A search sees a collection only by a lookup definition
(https://docs.splunk.com/Documentation/Splunk/latest/RESTREF/RESTknowledge, ``data/transforms/lookups``). Ours has the
collection's name, and matches networks by a field of their own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field, FiniteFloat, Strict, TypeAdapter, ValidationError

from include.soar.model import Action, Indicator, Observable, ObservableType
from include.soar.vendor.errors import Unexpected, one_line
from include.soar.vendor.wire import Request, Response, VendorShape, decode, first_problem, load_json

VENDOR = "splunk"

#: The mark of our documents. One without it belongs to another owner and is never changed.
OUR_SOURCE = "threat-response"

#: ``batch_save`` takes 1,000 documents by default (limits.conf, ``max_documents_per_batch_save``).
DOCUMENTS_PER_WRITE = 500
#: The members of a document as we write it.
OUR_MEMBERS = frozenset(
    {"_key", "value", "type", "confidence", "reasons", "first_seen_at", "last_seen_at", "expires_at", "expires_at_iso"}
    | {"incidents", "source", "network"}
)
#: What a lookup definition must list for a search to see it.
FIELDS = ("_key", *sorted(OUR_MEMBERS - {"_key"}))
#: The field that holds networks, and addresses as networks: ``| lookup threat_watchlist network AS src_ip``.
MATCH = "CIDR(network)"
#: Documents in one read of everything. A query silently returns at most 50,000 (limits.conf, ``max_rows_per_query``).
PAGE = 10_000
#: The operation that needs no authorization, since it gets one.
LOGIN = "login"
# INFERRED:
#: A query travels in the URL: keys of one look together are at most about this long.
QUERY_BYTES = 4_000
#: Creating a collection that another process has just created.
EXISTS_ALREADY = 409

Document = dict[str, Any]


class SessionKey(VendorShape):
    sessionKey: str


def login_request(username: str, password: str) -> Request:
    form = {"username": username, "password": password, "output_mode": "json"}
    return Request("POST", "/services/auth/login", operation=LOGIN, form=form)


def parse_login(response: Response) -> str:
    return decode(VENDOR, "login", SessionKey, response.body).sessionKey


def _path(owner: str, app: str, *parts: str) -> str:
    return "/".join(["/servicesNS", *(quote(p, safe="") for p in (owner, app)), *parts])


class Place:
    """Where the watchlist is: owner, app and collection; the requests to it."""

    def __init__(self, owner: str, app: str, collection: str) -> None:
        self.app = app
        self.collection = collection
        name = quote(collection, safe="")
        self._config = _path(owner, app, "storage/collections/config")
        self._data = _path(owner, app, "storage/collections/data", name)
        self._lookups = _path(owner, app, "data/transforms/lookups")
        self._name = name

    def exists_request(self) -> Request:
        params = (("output_mode", "json"),)
        return Request("GET", f"{self._config}/{self._name}", operation="find collection", params=params)

    def create_request(self) -> Request:
        form = {"name": self.collection, "output_mode": "json"}
        return Request("POST", self._config, operation="create collection", form=form, writes=True)

    def lookup_request(self) -> Request:
        params = (("output_mode", "json"),)
        return Request("GET", f"{self._lookups}/{self._name}", operation="find lookup", params=params)

    def create_lookup_request(self) -> Request:
        form = {
            "name": self.collection,
            "external_type": "kvstore",
            "collection": self.collection,
            "fields_list": ",".join(FIELDS),
            "match_type": MATCH,
            "output_mode": "json",
        }
        return Request("POST", self._lookups, operation="create lookup", form=form, writes=True)

    def ours_request(self, skip: int) -> Request:
        query = json.dumps({"source": OUR_SOURCE}, separators=(",", ":"))
        params = (("query", query), ("sort", "_key:1"), ("skip", str(skip)), ("limit", str(PAGE)))
        return Request("GET", self._data, operation="query", params=params)

    def query_request(self, keys: Sequence[str]) -> Request:
        query = json.dumps({"$or": [{"_key": key} for key in keys]}, separators=(",", ":"))
        return Request("GET", self._data, operation="query", params=(("query", query),))

    def save_request(self, documents: Sequence[Document]) -> Request:
        return Request("POST", f"{self._data}/batch_save", operation="batch_save", json=list(documents), writes=True)

    def delete_request(self, key: str) -> Request:
        path = f"{self._data}/{quote(key, safe='')}"
        return Request("DELETE", path, operation="delete", writes=True)


_DOCUMENTS = TypeAdapter(list[dict[str, Any]])
_KEYS = TypeAdapter(list[str])
_ANSWER = TypeAdapter(dict[str, Any])


def parse_query(response: Response) -> dict[str, Document]:
    """Documents by key, without what Splunk adds (``_user``)."""
    found = {}
    for document in _read("query", _DOCUMENTS, response):
        key = document.get("_key")
        if not isinstance(key, str):
            raise Unexpected(VENDOR, "query", "a document has no _key")
        found[key] = {name: value for name, value in document.items() if name != "_user"}
    return found


def check_collection(response: Response) -> None:
    """:raises Unexpected: what answers is no Splunk: many a web server has a page for every path"""
    if "entry" not in _read("find collection", _ANSWER, response):
        raise Unexpected(VENDOR, "find collection", "answer is not as documented: entry: Field required")


class Lookup(VendorShape):
    """A lookup definition, as a search sees it."""

    collection: str | None = None
    fields_list: str | None = None
    match_type: str | None = None

    def problem(self, collection: str) -> str:
        """Why a search does not see all of ours by it, in words; empty: it does."""
        if self.collection != collection:
            return f"it is about {one_line(self.collection or 'no collection', 60)}"
        if missing := set(FIELDS) - set((self.fields_list or "").replace(" ", "").split(",")):
            return f"its fields_list lacks {', '.join(sorted(missing))}"
        if MATCH not in (self.match_type or "").replace(",", " ").split():
            return f"its match_type lacks {MATCH}, so that networks are not matched"
        return ""


class _LookupEntry(VendorShape):
    content: Lookup


class _LookupAnswer(VendorShape):
    entry: tuple[_LookupEntry, ...] = Field(min_length=1)


def parse_lookup(response: Response) -> Lookup:
    return decode(VENDOR, "find lookup", _LookupAnswer, response.body).entry[0].content


def check_saved(response: Response) -> None:
    """:raises Unexpected: the answer is not the list of keys (which documents are there is read back anyway)"""
    _read("batch_save", _KEYS, response)


def _read(operation: str, shape: TypeAdapter[Any], response: Response) -> Any:
    try:
        return shape.validate_python(load_json(VENDOR, operation, response.body))
    except ValidationError as error:
        raise Unexpected(VENDOR, operation, f"answer is not as documented: {first_problem(error)}") from None


# --- documents ----------------------------------------------------------------------------------------------


def document_for(indicator: Indicator, incidents: Sequence[str]) -> Document:
    """
    ``expires_at`` is in epoch seconds, for ``where expires_at > now()``; ``expires_at_iso`` is the same for a
    person. No name has a dot in it: the KV store would take it for a path.
    """
    expires_at = int(indicator.expires_at.timestamp())
    return {
        "_key": indicator.observable.key,
        "value": indicator.observable.value,
        "type": indicator.observable.type.value,
        "confidence": indicator.confidence,
        "reasons": list(indicator.reasons),
        "first_seen_at": _iso(indicator.first_seen_at),
        "last_seen_at": _iso(indicator.last_seen_at),
        "expires_at": expires_at,
        "expires_at_iso": _iso(datetime.fromtimestamp(expires_at, UTC)),
        "incidents": sorted(incidents),
        "source": OUR_SOURCE,
        **_network(indicator.observable),
    }


def _network(observable: Observable) -> dict[str, str]:
    """An address or a network for CIDR matching; nothing of anything else."""
    match observable.type:
        case ObservableType.IPV4:
            return {"network": f"{observable.value}/32"}
        case ObservableType.IPV6:
            return {"network": f"{observable.value}/128"}
        case ObservableType.CIDR:
            return {"network": observable.value}
        case _:
            return {}


def observable_of(document: Mapping[str, Any]) -> Observable | None:
    """What a document is about; None: nothing that we write."""
    try:
        found = Observable(type=ObservableType(str(document.get("type"))), value=str(document.get("value")))
    except ValueError:
        return None
    return found if found.key == document["_key"] else None


def ours(document: Mapping[str, Any]) -> bool:
    return document.get("source") == OUR_SOURCE


class _Ours(VendorShape):
    """What merging reads of a document of ours."""

    confidence: Any
    reasons: Any
    first_seen_at: str
    last_seen_at: str
    expires_at: Annotated[FiniteFloat, Strict()]
    expires_at_iso: Any
    incidents: tuple[str, ...]


def merge(old: Document, new: Document) -> Document:
    """
    What the watchlist should hold, given what it holds: all incidents, the longest time, the widest sighting, the
    judgement of the later sighting, and every field that a person added.

    :raises Unexpected: ours, but not as we write it
    """
    try:
        _Ours.model_validate(old)
    except ValidationError as error:
        problem = f"a document of ours is not as we write it: {first_problem(error)}"
        raise Unexpected(VENDOR, "query", problem) from None
    if ends_at(old) is None and float(old["expires_at"]) > 0:
        # Milliseconds, say. Whatever a person meant by it, no search would take the row for a valid one.
        raise Unexpected(VENDOR, "query", "a document of ours is not as we write it: expires_at is no time")
    later = new if new["last_seen_at"] >= old["last_seen_at"] else old
    longer = new if new["expires_at"] >= float(old["expires_at"]) else old
    return {
        **old,
        **new,
        "confidence": later["confidence"],
        "reasons": later["reasons"],
        "first_seen_at": min(old["first_seen_at"], new["first_seen_at"]),
        "last_seen_at": later["last_seen_at"],
        "expires_at": longer["expires_at"],
        "expires_at_iso": longer["expires_at_iso"],
        "incidents": sorted({*old["incidents"], *new["incidents"]}),
    }


def altered(document: Document, ends: Collection[datetime | None]) -> str:
    """
    What a person changed of our document since we left it, in words; empty: nothing.

    :param ends: those that we can have left; None among them: not known
    """
    if added := sorted(document.keys() - OUR_MEMBERS):
        return f"a person added {one_line(', '.join(added), 100)} to the document"
    if None not in ends and document.get("expires_at") not in {int(end.timestamp()) for end in ends if end}:
        return "the document's end changed since we wrote it"
    return ""


def kept_because(document: Document, action: Action) -> str | None:
    """Why a document stays although the action is to be lifted; None: it is ours, and as we left it."""
    if not ours(document):
        return "somebody else's document, which was left alone"
    changed = altered(document, {action.expires_at})
    return f"{changed}, so it was left alone" if changed else None


def ends_at(document: Document) -> datetime | None:
    """None: no end that a calendar could hold, as where a person wrote a very large number for "never"."""
    try:
        return datetime.fromtimestamp(float(document["expires_at"]), UTC)
    except (OverflowError, OSError, ValueError, TypeError, KeyError):
        return None


def query_chunks(keys: Iterable[str]) -> list[list[str]]:
    result: list[list[str]] = []
    size = 0
    for key in keys:
        length = len(quote(json.dumps({"_key": key})))
        if not result or size + length > QUERY_BYTES:
            result.append([])
            size = 0
        result[-1].append(key)
        size += length
    return result


def write_chunks(documents: Sequence[Document]) -> list[list[Document]]:
    return [
        list(documents[start : start + DOCUMENTS_PER_WRITE]) for start in range(0, len(documents), DOCUMENTS_PER_WRITE)
    ]


def _iso(instant: datetime) -> str:
    """Of one width, so that texts order as times do."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
