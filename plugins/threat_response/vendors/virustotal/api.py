"""VirusTotal API v3 without I/O. Field names are the vendor's. https://docs.virustotal.com/reference/overview"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BeforeValidator, Field

from include.soar.enrich.quota import Quota
from include.soar.extract.values import parse_address
from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor.errors import Unexpected, one_line
from include.soar.vendor.lenient import Cosmetic, CosmeticRows, Labels
from include.soar.vendor.tags import distinct
from include.soar.vendor.wire import Request, Response, VendorShape, decode

VENDOR = "virustotal"

TIMEOUT_SECONDS = 30.0

#: The key's limits, by plan. https://docs.virustotal.com/reference/public-vs-premium-api. A premium key's are in the
#: contract. The month (15,500, from a third party) is left out: it is 31 full days.
PUBLIC = "public"
PUBLIC_QUOTAS = (Quota("lookup", 4, timedelta(minutes=1)), Quota("lookup", 500, timedelta(days=1)))

#: 424: something that the answer depends on failed. The vendor's table does not say that asking again helps: inferred.
UNAVAILABLE_STATUSES = (424,)

#: Collection in the path, ``type`` of the answer, and the vendor's page for a person. Shown, never fetched.
_COLLECTIONS = {
    ObservableType.IPV4: ("ip_addresses", "ip_address", "ip-address"),
    ObservableType.IPV6: ("ip_addresses", "ip_address", "ip-address"),
    ObservableType.DOMAIN: ("domains", "domain", "domain"),
    ObservableType.URL: ("urls", "url", "url"),
    ObservableType.FILE: ("files", "file", "file"),
}
TYPES = frozenset(_COLLECTIONS)
PAGE = "https://www.virustotal.com/gui"

#: Badness per engine that says so. Ten engines are certain; one alone is so often wrong that it is next to nothing.
POINTS_MALICIOUS, POINTS_SUSPICIOUS = 10, 5
#: A domain has 253 characters, a hash 64.
LONGEST_ID = 256


def _instant(seconds: object) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if type(seconds) is int and 0 < seconds < 2**33 else None


def _categories(value: Any) -> dict[str, str]:
    return {k: v for k, v in value.items() if isinstance(v, str)} if isinstance(value, dict) else {}


#: Seconds since 1970. What is no such number is absent: no answer depends on it.
Epoch = Annotated[datetime | None, BeforeValidator(_instant)]


class Stats(VendorShape):
    """How many engines say what in their last analysis."""

    # No default for what counts: a missing count is not a zero.
    malicious: int = Field(ge=0, strict=True)
    suspicious: int = Field(ge=0, strict=True)
    harmless: int = Field(ge=0, strict=True)
    undetected: int = Field(ge=0, strict=True)

    @property
    def engines(self) -> int:
        """Those that looked. The others (time-out, failure, type unsupported) have no opinion."""
        return self.malicious + self.suspicious + self.harmless + self.undetected


class Label(VendorShape):
    value: str


class ThreatClassification(VendorShape):
    suggested_threat_label: Cosmetic[str] = None
    popular_threat_category: CosmeticRows[Label] = ()


class Attributes(VendorShape):
    last_analysis_stats: Stats
    last_analysis_date: Epoch = None
    first_submission_date: Epoch = None
    tags: Labels = ()
    #: Of a domain or URL: vendor -> its category.
    categories: Annotated[dict[str, str], BeforeValidator(_categories)] = {}
    popular_threat_classification: Cosmetic[ThreatClassification] = None
    as_owner: Cosmetic[str] = None
    country: Cosmetic[str] = None
    registrar: Cosmetic[str] = None
    type_description: Cosmetic[str] = None
    meaningful_name: Cosmetic[str] = None
    #: By these a file is told: one that cannot be read tells none.
    md5: Cosmetic[str] = None
    sha1: Cosmetic[str] = None
    sha256: Cosmetic[str] = None


class Data(VendorShape):
    type: str
    id: str
    attributes: Attributes


class ObjectAnswer(VendorShape):
    data: Data


def is_known_type(observable: Observable) -> bool:
    """Whether there is a call for it: a file has none by its SHA-512."""
    return observable.type in TYPES and not (
        observable.type is ObservableType.FILE and observable.hash_algorithm == "SHA-512"
    )


def url_id(url: str) -> str:
    """Base64url without padding. https://docs.virustotal.com/reference/url#url-identifiers"""
    return base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def lookup_request(observable: Observable) -> Request:
    """One lookup of the key's quota. Nothing is ever uploaded: that would publish it."""
    collection = _COLLECTIONS[observable.type][0]
    name = url_id(observable.value) if observable.type is ObservableType.URL else quote(observable.value, safe=":")
    return Request("GET", f"/api/v3/{collection}/{name}", operation="lookup", timeout_seconds=TIMEOUT_SECONDS)


def score(stats: Stats) -> int:
    """
    The engines' words on our scale: ten points for each "malicious", five for each "suspicious", at most 100.

    Counted rather than a share of all engines: of some 90 engines only a few know addresses and domains at all, and
    what ten of them agree on is bad, whatever the other eighty have never seen.
    """
    return min(100, POINTS_MALICIOUS * stats.malicious + POINTS_SUSPICIOUS * stats.suspicious)


def parse_lookup(observable: Observable, response: Response, *, known_at: datetime) -> Reputation:
    """
    An answer with status 200 as a reputation: listed when an engine says malicious or suspicious.

    The community's votes are not read: anybody may vote.

    :raises Unexpected: also when the answer is about something else
    """
    data = decode(VENDOR, "lookup", ObjectAnswer, response.body).data
    _, kind, page = _COLLECTIONS[observable.type]
    attributes = data.attributes
    if data.type != kind or not _is_about(observable, data):
        raise Unexpected(VENDOR, "lookup", "data.id is not what was asked about")
    stats, threat = attributes.last_analysis_stats, attributes.popular_threat_classification
    badness = score(stats)
    opinions = f"{stats.malicious} of {stats.engines} engines say malicious, {stats.suspicious} suspicious"
    facts = [
        opinions if stats.engines else "known, but no engine has looked at it",
        threat.suggested_threat_label if threat else None,
        attributes.type_description,
        attributes.meaningful_name,
        attributes.as_owner,
        attributes.registrar,
        attributes.country,
    ]
    return Reputation(
        observable=observable,
        provider=VENDOR,
        answer=Answer.LISTED if badness else Answer.NOT_LISTED,
        score=badness,
        summary=one_line(", ".join(fact for fact in facts if fact)),
        reference=f"{PAGE}/{page}/{quote(data.id[:LONGEST_ID], safe=':')}",
        # Names of files and families are whatever their author wrote.
        tags=distinct(_tags(attributes)),
        first_reported_at=attributes.first_submission_date,
        last_reported_at=attributes.last_analysis_date,
        body_digest=response.digest,
        known_at=known_at,
    )


def parse_not_found(observable: Observable, response: Response, *, known_at: datetime) -> Reputation:
    """
    A 404, which is an answer: VirusTotal has never seen it.

    :raises Unexpected: something else than VirusTotal answered 404: silence, not an answer
    """
    try:
        code = json.loads(response.body)["error"]["code"]
    except (ValueError, RecursionError, KeyError, TypeError):
        code = None
    if code != "NotFoundError":
        raise Unexpected(VENDOR, "lookup", "404 without NotFoundError is not this vendor's answer", status=404)
    return Reputation(
        observable=observable,
        provider=VENDOR,
        answer=Answer.NOT_LISTED,
        score=0,
        summary="never seen",
        body_digest=response.digest,
        known_at=known_at,
    )


def _is_about(observable: Observable, data: Data) -> bool:
    attributes = data.attributes
    if observable.is_address:
        return parse_address(data.id) == observable
    if observable.type is ObservableType.DOMAIN:
        return data.id.lower() == observable.value
    if observable.type is ObservableType.FILE:
        hashes = (attributes.md5, attributes.sha1, attributes.sha256)
        return observable.value in {h.lower() for h in hashes if h}
    # A URL comes back by the hash of a canonical form that only the vendor can make.
    return True


def _tags(attributes: Attributes) -> Iterator[str]:
    if threat := attributes.popular_threat_classification:
        if threat.suggested_threat_label:
            yield threat.suggested_threat_label
        yield from (label.value for label in threat.popular_threat_category if label)
    yield from attributes.tags
    yield from attributes.categories.values()
