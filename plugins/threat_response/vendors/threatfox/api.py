"""ThreatFox (abuse.ch) without I/O: indicators of known malware. Field names are the vendor's.

https://threatfox.abuse.ch/api/ has one address for everything; the body says what is asked. Every answer is a 200
with a ``query_status``, and only two of its words are answers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic import Field

from include.soar.extract.values import parse_address, parse_url
from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor import abuse_ch
from include.soar.vendor.abuse_ch import Moment
from include.soar.vendor.errors import one_line
from include.soar.vendor.lenient import Cosmetic, Digits, Labels
from include.soar.vendor.tags import distinct
from include.soar.vendor.wire import Request, Response, VendorShape, decode

VENDOR = "threatfox"

#: The vendor's pages, for a person. Shown, never fetched.
SITE = "https://threatfox.abuse.ch"
TIMEOUT_SECONDS = 20.0

# Third party or inferred: the vendor's page does not settle these.
#: ``exact_match`` of search_ioc. Without it the term matches anywhere in an indicator: 8.8.8.8 finds 18.8.8.80:443.
#: An address is asked about without it all the same, since it is listed with its port; the rows are sifted here.
EXACT_MATCH = "exact_match"
#: Words for a value that ThreatFox cannot take; the misspelt one has been seen.
REFUSED = frozenset({"illegal_search_term", "illegal_hash", "illegl_hash"})

#: SHA-1 and SHA-512 cannot be searched.
HASH_ALGORITHMS = ("MD5", "SHA-256")
LONGEST_ID = 20


class Ioc(VendorShape):
    id: Cosmetic[Digits] = None
    ioc: str = Field(min_length=1)
    ioc_type: str
    threat_type: Cosmetic[str] = None
    malware_printable: Cosmetic[str] = None
    # No default: a missing confidence is not a zero. Strict: true is not a one.
    confidence_level: int = Field(ge=0, le=100, strict=True)
    is_compromised: Cosmetic[bool] = None
    first_seen: Moment
    last_seen: Moment | None = None
    tags: Labels = ()


class SearchAnswer(VendorShape):
    #: A list with ``ok`` only; where nothing is found it is a sentence.
    data: tuple[Ioc, ...]


def search_request(observable: Observable) -> Request:
    """A question, although it is a POST: nothing is submitted."""
    if observable.type is ObservableType.FILE:
        body: dict[str, Any] = {"query": "search_hash", "hash": observable.value}
    else:
        body = {"query": "search_ioc", "search_term": observable.value, EXACT_MATCH: not observable.is_address}
    return Request("POST", "/api/v1/", operation=body["query"], json=body, timeout_seconds=TIMEOUT_SECONDS)


def is_found(operation: str, response: Response) -> bool:
    """See ``abuse_ch.is_found``."""
    return abuse_ch.is_found(VENDOR, operation, response, nothing="no_result", refused=REFUSED)


def parse_search(observable: Observable, response: Response, *, known_at: datetime) -> Reputation:
    """
    An answer of ``search_ioc`` or ``search_hash`` as a reputation: listed when a row is about the very value.

    The score is the highest ``confidence_level`` among those rows, the vendor's own 0-100. A row's confidence can
    be 0, and it is listed then too. ``search_hash`` gives the indicators of the malware that the file is a sample
    of, so every row counts.

    :raises Rejected, Unauthorized, Unexpected: see :func:`is_found`
    """
    operation = search_request(observable).operation
    rows: list[Ioc] = []
    if is_found(operation, response):
        data = decode(VENDOR, operation, SearchAnswer, response.body).data
        rows = [row for row in data if observable.type is ObservableType.FILE or _is_about(observable, row)]
    said: dict[str, Any] = {
        "observable": observable,
        "provider": VENDOR,
        "answer": Answer.NOT_LISTED,
        "score": 0,
        "summary": "no indicator",
        "reference": f"{SITE}/browse.php?search={quote('ioc:' + observable.value, safe='')}",
        "body_digest": response.digest,
        "known_at": known_at,
    }
    if rows:
        rows.sort(key=lambda row: row.confidence_level, reverse=True)
        said |= {
            "answer": Answer.LISTED,
            "score": rows[0].confidence_level,
            "summary": _summary(rows),
            # Families first: where there are too many, the free labels are what is left out.
            "tags": distinct([*_families(rows), *(tag for row in rows for tag in row.tags)]),
            "first_reported_at": min(row.first_seen for row in rows),
            "last_reported_at": max(row.last_seen or row.first_seen for row in rows),
        }
        if (number := rows[0].id) and number.isascii() and number.isdigit() and len(number) < LONGEST_ID:
            said["reference"] = f"{SITE}/ioc/{number}/"
    return Reputation(**said)


def _is_about(observable: Observable, row: Ioc) -> bool:
    """Whether a row is the value itself, or for an address, one of its ports."""
    if observable.is_address:
        return parse_address(row.ioc.rpartition(":")[0]) == observable
    if observable.type is ObservableType.URL:
        return parse_url(row.ioc) == observable
    return row.ioc.lower().rstrip(".") == observable.value


def _families(rows: list[Ioc]) -> list[str]:
    return list(dict.fromkeys(row.malware_printable for row in rows if row.malware_printable))


def _summary(rows: list[Ioc]) -> str:
    facts = ["1 indicator" if len(rows) == 1 else f"{len(rows)} indicators"]
    facts += list(dict.fromkeys(row.threat_type for row in rows if row.threat_type))[:3]
    facts += _families(rows)[:3]
    # Somebody else's host, broken into: good to know before it is blocked.
    facts += ["a compromised host"] if all(row.is_compromised for row in rows) else []
    return ", ".join(one_line(fact, 60) for fact in facts)
