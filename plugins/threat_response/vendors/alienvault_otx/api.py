"""AlienVault (LevelBlue) OTX without I/O: what the community's pulses say. Field names are the vendor's.

https://otx.alienvault.com/assets/static/external_api.html, and the vendor's SDK
(https://github.com/AlienVault-OTX/OTX-Python-SDK).
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from include.soar.enrich.quota import Quota
from include.soar.extract.values import parse_address, parse_domain
from include.soar.model import Answer, Instant, Observable, ObservableType, Reputation
from include.soar.vendor.errors import Unexpected, one_line
from include.soar.vendor.lenient import Cosmetic, CosmeticRows, Rows
from include.soar.vendor.tags import distinct
from include.soar.vendor.wire import Request, Response, VendorShape, decode

VENDOR = "alienvault_otx"

#: The vendor's page about an indicator, for a person. Shown, never fetched.
PAGE = "https://otx.alienvault.com/indicator"
TIMEOUT_SECONDS = 30.0  # users report answers that never come

# Inferred: the vendor publishes none of these.
#: No limit is documented, and users were refused after about half an hour of steady asking
#: (https://github.com/Graylog2/graylog-plugin-threatintel/issues/230): far below what that must have been.
QUOTAS = (Quota("lookup", 1000, timedelta(hours=1)),)
#: A value that OTX has never seen is a 404 at some times (third party:
#: https://github.com/demisto/content/pull/13593) and a 200 without pulses at others.
UNKNOWN_STATUS = 404
#: Badness: a first voice, each further one, and the most that a count alone can ever say.
FIRST_VOICE, FURTHER_VOICE, MOST = 20, 10, 80

#: SHA-512 is no indicator type of OTX.
HASH_ALGORITHMS = ("MD5", "SHA-1", "SHA-256")

_SLUGS = {
    ObservableType.IPV4: "IPv4",
    ObservableType.IPV6: "IPv6",
    ObservableType.URL: "url",
    ObservableType.FILE: "file",
}
_PAGES = {"IPv4": "ip", "IPv6": "ip"}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_TECHNIQUE = re.compile(r"T[0-9]{4}(?:\.[0-9]{3})?")


def _name(item: Any) -> Any:
    """Families and techniques come as text in some answers, as an object in others."""
    return (item.get("display_name") or item.get("id") or "") if isinstance(item, dict) else item


def _identity(item: Any) -> Any:
    return (item.get("id") or "") if isinstance(item, dict) else item


_INSTANT = TypeAdapter(Instant)


def _in_utc(moment: datetime) -> datetime:
    return _INSTANT.validate_python(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


Moment = Annotated[datetime, AfterValidator(_in_utc)]
Names = CosmeticRows[Annotated[str, BeforeValidator(_name)]]
Identities = CosmeticRows[Annotated[str, BeforeValidator(_identity)]]


class Author(VendorShape):
    username: Cosmetic[str] = None


class Pulse(VendorShape):
    # None of it decides: the pulses are counted. One that somebody published with odd members costs no answer.
    name: Cosmetic[str] = None
    created: Cosmetic[Moment] = None
    modified: Cosmetic[Moment] = None
    tags: Names = ()
    malware_families: Names = ()
    attack_ids: Identities = ()
    author: Cosmetic[Author] = None


class PulseInfo(VendorShape):
    # No default, and strict: a count that is missing is not a zero, and true is not a one.
    count: int = Field(ge=0, strict=True)
    pulses: tuple[Pulse, ...]


class Validation(VendorShape):
    source: Cosmetic[str] = None
    name: Cosmetic[str] = None


class FalsePositive(VendorShape):
    assessment: str | None = None


class GeneralAnswer(VendorShape):
    indicator: str
    pulse_info: PulseInfo
    #: Some answers have none. One that is there and cannot be read is an error: it takes the pulses back.
    validation: Rows[Validation] = ()
    false_positive: Rows[FalsePositive] = ()


class UserAnswer(VendorShape):
    username: str = Field(min_length=1)


def slug(observable: Observable) -> str:
    """The vendor's word for its kind. A name below a registrable one is a ``hostname``."""
    if observable.type is ObservableType.DOMAIN:
        return "hostname" if parse_domain(observable.value.partition(".")[2]) else "domain"
    return _SLUGS[observable.type]


def general_request(observable: Observable) -> Request:
    return Request(
        "GET",
        f"/api/v1/indicators/{slug(observable)}/{quote(observable.value, safe='')}/general",
        operation="general",
        timeout_seconds=TIMEOUT_SECONDS,
    )


def user_request() -> Request:
    """Whose key it is. A lookup would not tell: third parties saw OTX answer it for a wrong key too."""
    return Request("GET", "/api/v1/users/me", operation="user", timeout_seconds=TIMEOUT_SECONDS)


def parse_user(response: Response) -> str:
    """:raises Unexpected: the answer names nobody"""
    return decode(VENDOR, "user", UserAnswer, response.body).username


def is_unknown(response: Response) -> bool:
    """Whether the vendor says that it has no such indicator; a page in HTML says that something else answers."""
    if response.status != UNKNOWN_STATUS:
        return False
    try:
        return isinstance(json.loads(response.body), dict)
    except (ValueError, RecursionError):
        return False


def badness(info: PulseInfo) -> int:
    """
    Pulses as a score of 0-100: 20 for the first, 10 for each further one, 80 at most.

    One author's pulses count once, since anybody may publish any number, and the same list is often published
    again. A count alone is weak: a single honeypot's pulse is known to list 31,038 addresses.
    """
    authors = [p.author.username for p in info.pulses if p.author and p.author.username]
    voices = info.count - (len(authors) - len(set(authors)))
    return min(MOST, FIRST_VOICE + FURTHER_VOICE * (voices - 1)) if voices > 0 else 0


def parse_general(observable: Observable, response: Response, *, known_at: datetime) -> Reputation:
    """
    A ``general`` answer as a reputation: listed when a pulse names it, and OTX does not take it back.

    ``validation`` is OTX's own list of the harmless (whitelisted, popular, known false positive), as is an accepted
    ``false_positive``: pulses then do not count, as in the vendor's own example (``is_malicious``).

    :raises Unexpected: also when the answer is about another value
    """
    if is_unknown(response):
        return _reputation(observable, response, known_at, "OTX has never seen it")
    answer = decode(VENDOR, "general", GeneralAnswer, response.body)
    if not _is_about(observable, answer.indicator):
        raise Unexpected(VENDOR, "general", "indicator is not the value that was asked about")
    info = answer.pulse_info
    named = "1 pulse names it" if info.count == 1 else f"{info.count} pulses name it"
    if harmless := _harmless(answer):
        return _reputation(observable, response, known_at, f"taken for harmless by OTX ({harmless}); {named}")
    if not info.count:
        return _reputation(observable, response, known_at, "no pulse names it")
    pulses = sorted(info.pulses, key=lambda p: p.created or _LONG_AGO)
    newest = f"; the newest: {one_line(pulses[-1].name or 'nameless', 100)}" if pulses else ""
    created = [p.created for p in pulses if p.created]
    touched = [moment for p in pulses if (moment := p.modified or p.created)]
    return _reputation(
        observable,
        response,
        known_at,
        named + newest,
        answer=Answer.LISTED,
        score=badness(info),
        # Families first: where there are too many, the free labels are what is left out.
        tags=distinct([t for p in pulses for t in p.malware_families] + [t for p in pulses for t in p.tags]),
        techniques=tuple(sorted({t for p in pulses for t in p.attack_ids if t and _TECHNIQUE.fullmatch(t)})),
        first_reported_at=min(created, default=None),
        last_reported_at=max(touched, default=None),
    )


def _reputation(
    observable: Observable, response: Response, known_at: datetime, summary: str, **listed: Any
) -> Reputation:
    return Reputation(
        **{
            "observable": observable,
            "provider": VENDOR,
            "answer": Answer.NOT_LISTED,
            "score": 0,
            "summary": summary,
            "reference": page(observable),
            "body_digest": response.digest,
            "known_at": known_at,
            **listed,
        }
    )


def page(observable: Observable) -> str:
    kind = slug(observable)
    return f"{PAGE}/{_PAGES.get(kind, kind)}/{quote(observable.value, safe='')}"


def _is_about(observable: Observable, indicator: str) -> bool:
    """For URLs and files OTX may answer with its own spelling, or with another hash of the same file."""
    if observable.is_address:
        return parse_address(indicator) == observable
    return observable.type is not ObservableType.DOMAIN or indicator.lower() == observable.value


def _harmless(answer: GeneralAnswer) -> str:
    words = [v.name or v.source or "validation" for v in answer.validation]
    words += ["accepted false positive" for f in answer.false_positive if f.assessment == "accepted"]
    return ", ".join(one_line(word, 60) for word in dict.fromkeys(words))
