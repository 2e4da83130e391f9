"""
GreyNoise API v3 without I/O. Field names are the vendor's.

Community: https://docs.greynoise.io/reference/getcommunityip, paid: https://docs.greynoise.io/reference/v3ip. The v2
calls ended on 2026-01-01: https://docs.greynoise.io/docs/v2-v3-api-migration-matrix
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field

from include.soar.enrich.quota import Quota
from include.soar.extract.values import parse_address
from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor.errors import Unauthorized, Unexpected, one_line
from include.soar.vendor.lenient import Cosmetic, CosmeticRows, Digits, Labels
from include.soar.vendor.tags import distinct
from include.soar.vendor.wire import Request, Response, VendorShape, decode

VENDOR = "greynoise"

#: IPv6 is answered with 400.
TYPES = frozenset({ObservableType.IPV4})

TIMEOUT_SECONDS = 30.0
COMMUNITY, PAID = "community", "paid"

# From third parties, not from the vendor: how many lookups a week are free, with a key and without. A paid key's are in
# the contract.
FREE_QUOTAS = (Quota("lookup", 50, timedelta(weeks=1)),)
KEYLESS_QUOTAS = (Quota("lookup", 25, timedelta(weeks=1)),)

#: Addresses a call; the vendor takes 10,000. Each comes with all that was seen of it, and an answer has to end in time.
MOST_AT_ONCE = 500

#: The vendor's page about an address, for a person. Shown, never fetched.
PAGE = "https://viz.greynoise.io/ip/"

#: The vendor's words on our scale. Being a scanner is not bad by itself.
SCORES = {"malicious": 100, "suspicious": 50, "unknown": 0, "benign": 0}
#: The most that counts where a block would hit bystanders.
MOST_WHEN_DOUBTFUL = 50
#: Business services that many share. Level 3 is a label without trust: anybody may rent a machine there.
TRUSTED_LEVELS = ("1", "2")

#: The status of an answer from which the key's plan leaves out fields.
PARTIAL = 206

Flag = Annotated[bool, Field(strict=True)]
#: ``2026-11-20``, or an empty text where nothing was found.
Day = Annotated[date | None, BeforeValidator(lambda value: value or None)]
Text = Annotated[str, BeforeValidator(lambda value: value or "")]
#: Only repeated: what is no text is none.
Words = Annotated[str, BeforeValidator(lambda value: value if isinstance(value, str) else "")]


class CommunityNotFound(VendorShape):
    """The body of a 404. Its ``message`` has changed at least once, so nothing is read from it."""

    ip: str
    noise: Flag
    riot: Flag


class CommunityAnswer(CommunityNotFound):
    classification: str
    name: Words = ""
    last_seen: Day = None


class Tag(VendorShape):
    name: str


#: The published schema says one object, the answers have a list.
Tags = Annotated[CosmeticRows[Tag], BeforeValidator(lambda value: [value] if isinstance(value, dict) else value or [])]


class BusinessService(VendorShape):
    """Formerly RIOT."""

    found: Flag
    name: Words = ""
    category: Words = ""
    trust_level: Annotated[Digits, BeforeValidator(lambda value: "" if value is None else value)] = ""


class Scanner(VendorShape):
    """Formerly NOISE."""

    found: Flag
    classification: Text = ""
    first_seen: Day = None
    last_seen: Day = None
    actor: Words = ""
    spoofable: bool | None = None
    tor: Cosmetic[bool] = None
    vpn: Cosmetic[bool] = None
    bot: Cosmetic[bool] = None
    cves: Labels = ()
    tags: Tags = ()


class Profile(VendorShape):
    ip: str
    business_service_intelligence: BusinessService
    internet_scanner_intelligence: Scanner


class Metadata(VendorShape):
    ips_not_found: Labels = ()


class MultiAnswer(VendorShape):
    #: Each a :class:`Profile`, read by itself: one that is odd does not cost the other 499.
    data: tuple[Any, ...]
    request_metadata: Metadata


class Pong(VendorShape):
    message: str
    plan: Words = ""
    expiration: Words = ""


class _NotAsked(Unexpected):
    """Another question's answer: nothing of it can be used."""


Partial = TypeVar("Partial", Profile, MultiAnswer)


def ping_request() -> Request:
    """Whether the key is known. Costs no lookup."""
    return Request("GET", "/ping", operation="ping", timeout_seconds=TIMEOUT_SECONDS)


def parse_ping(response: Response) -> Pong:
    pong = decode(VENDOR, "ping", Pong, response.body)
    if pong.message != "pong":
        raise Unexpected(VENDOR, "ping", "message is not pong")
    return pong


def lookup_request(observable: Observable, *, plan: str) -> Request:
    """One address, by the call of the plan."""
    path = "/v3/community/" if plan == COMMUNITY else "/v3/ip/"
    return Request("GET", path + observable.value, operation="lookup", timeout_seconds=TIMEOUT_SECONDS)


def multi_request(observables: Sequence[Observable]) -> Request:
    """Up to 10,000 addresses; paid only. A question, though it is a POST."""
    body = {"ips": [o.value for o in observables]}
    return Request("POST", "/v3/ip", operation="lookup", json=body, timeout_seconds=TIMEOUT_SECONDS)


def score(classification: str, *, doubtful: bool) -> int:
    """
    The vendor's word on our scale: malicious 100, suspicious 50, unknown and benign 0.

    :param doubtful: the address may not be the culprit: what was seen could be spoofed (no full TCP connection), or
        many share it (a resolver, a CDN). It then counts 50 at most.
    :raises Unexpected: a word that is not known
    """
    if classification not in SCORES:
        raise Unexpected(VENDOR, "lookup", "classification is none of the words that are known")
    return min(SCORES[classification], MOST_WHEN_DOUBTFUL) if doubtful else SCORES[classification]


def parse_community(observable: Observable, response: Response, *, known_at: datetime) -> Reputation:
    """An answer with status 200: the address is a scanner, or of a business service, or both."""
    data = decode(VENDOR, "lookup", CommunityAnswer, response.body)
    _must_be_about(observable, data.ip)
    return _reputation(
        observable,
        response,
        badness=score(data.classification, doubtful=data.riot),
        facts=[
            data.classification,
            "internet scanner" if data.noise else "",
            "common business service" if data.riot else "",
            _known_name(data.name),
        ],
        first_seen=None,
        last_seen=data.last_seen,
        known_at=known_at,
    )


def parse_community_not_found(observable: Observable, response: Response, *, known_at: datetime) -> Reputation:
    """
    A 404, which is an answer: GreyNoise never saw it scan, nor knows it as a business service.

    :raises Unexpected: something else answered 404: silence, not an answer
    """
    data = decode(VENDOR, "lookup", CommunityNotFound, response.body)
    _must_be_about(observable, data.ip)
    if data.noise or data.riot:
        raise Unexpected(VENDOR, "lookup", "404 for an address that it says it knows", status=404)
    return _not_observed(observable, response, known_at)


def parse_profile(observable: Observable, response: Response, *, known_at: datetime) -> Reputation:
    """
    The paid answer about one address.

    :raises Unauthorized: the key's plan leaves out what an answer needs (206)
    """
    profile = _decode_partial(Profile, response)
    _must_be_about(observable, profile.ip)
    return _of_profile(observable, profile, response, known_at)


def parse_multi(observables: Sequence[Observable], response: Response, *, known_at: datetime) -> list[Reputation]:
    """
    The paid answer about several. Those that it does not name in a way that can be read are not in the result.

    :raises Unexpected: also when it names one that was not asked about, or none of it can be read
    :raises Unauthorized: the key's plan leaves out what an answer needs (206)
    """
    asked = {o.value: o for o in observables}
    document = _decode_partial(MultiAnswer, response)
    answers: dict[str, Reputation] = {}
    unreadable: list[Unexpected] = []
    for part in document.data:
        try:
            profile = decode(VENDOR, "lookup", Profile, part)
            if profile.ip not in asked:
                raise _NotAsked(VENDOR, "lookup", "data.ip is not an address that was asked about")
            answers[profile.ip] = _of_profile(asked[profile.ip], profile, response, known_at)
        except _NotAsked:
            raise
        except Unexpected as error:
            unreadable.append(error)
    if unreadable and (not answers or response.status == PARTIAL):
        raise _of_plan(unreadable[0], response)
    for missing in document.request_metadata.ips_not_found:
        if missing in asked and missing not in answers:
            answers[missing] = _not_observed(asked[missing], response, known_at)
    return list(answers.values())


def _decode_partial(shape: type[Partial], response: Response) -> Partial:
    try:
        return decode(VENDOR, "lookup", shape, response.body)
    except Unexpected as error:
        raise _of_plan(error, response) from None


def _of_plan(error: Unexpected, response: Response) -> Unexpected | Unauthorized:
    """A 206 says itself that fields are missing: then it is the plan that a person must look at."""
    if response.status != PARTIAL:
        return error
    return Unauthorized(VENDOR, "lookup", f"the key's plan leaves out what we need: {error.reason}", status=PARTIAL)


def _of_profile(observable: Observable, profile: Profile, response: Response, known_at: datetime) -> Reputation:
    service, scanner = profile.business_service_intelligence, profile.internet_scanner_intelligence
    if not service.found and not scanner.found:
        return _not_observed(observable, response, known_at)
    shared = service.found and service.trust_level in TRUSTED_LEVELS
    # A business service that does not scan has no classification; by its trust level it is benign or nothing.
    word = scanner.classification if scanner.found else "benign" if shared else "unknown"
    try:
        badness = score(word, doubtful=shared or bool(scanner.spoofable))
    except Unexpected as error:
        raise _of_plan(error, response) from None
    facts = [
        word,
        "internet scanner" if scanner.found else "",
        "could be spoofed" if scanner.spoofable else "",
        _known_name(scanner.actor),
        f"common business service (trust level {service.trust_level or 'unknown'})" if service.found else "",
        service.name,
        service.category,
        *(kind for kind in ("tor", "vpn", "bot") if getattr(scanner, kind)),
        *(tag.name for tag in scanner.tags if tag),
        *scanner.cves,
    ]
    return _reputation(
        observable,
        response,
        badness=badness,
        facts=facts,
        first_seen=scanner.first_seen,
        last_seen=scanner.last_seen,
        known_at=known_at,
    )


def _reputation(
    observable: Observable,
    response: Response,
    *,
    badness: int,
    facts: Iterable[str],
    first_seen: date | None,
    last_seen: date | None,
    known_at: datetime,
) -> Reputation:
    tags = distinct(facts)
    return Reputation(
        observable=observable,
        provider=VENDOR,
        answer=Answer.LISTED if badness else Answer.NOT_LISTED,
        score=badness,
        summary=one_line(", ".join(tags)),
        reference=PAGE + observable.value,
        tags=tags,
        first_reported_at=_midnight(first_seen),
        last_reported_at=_midnight(last_seen),
        body_digest=response.digest,
        known_at=known_at,
    )


def _not_observed(observable: Observable, response: Response, known_at: datetime) -> Reputation:
    return Reputation(
        observable=observable,
        provider=VENDOR,
        answer=Answer.NOT_LISTED,
        score=0,
        summary="not observed scanning the internet",
        reference=PAGE + observable.value,
        body_digest=response.digest,
        known_at=known_at,
    )


def _must_be_about(observable: Observable, ip: str) -> None:
    if parse_address(ip) != observable:
        raise Unexpected(VENDOR, "lookup", "ip is not the address that was asked about")


def _known_name(name: str) -> str:
    return "" if name.lower() == "unknown" else name


def _midnight(day: date | None) -> datetime | None:
    """The vendor names days; the start of one never makes it look fresher than it is."""
    return datetime.combine(day, time(), UTC) if day else None
