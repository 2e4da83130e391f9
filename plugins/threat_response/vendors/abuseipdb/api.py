"""AbuseIPDB APIv2 without I/O. Field names are the vendor's. https://docs.abuseipdb.com/

``check``        what is known about one address
``check-block``  the reported addresses of one network, for one call
``blacklist``    the worst addresses of all, for one call
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import Field, TypeAdapter, ValidationError

from include.soar.enrich.quota import Quota, QuotaSeen
from include.soar.extract.values import parse_address
from include.soar.model import Answer, Instant, Observable, ObservableType, Reputation
from include.soar.vendor.errors import Unexpected, one_line
from include.soar.vendor.lenient import Cosmetic
from include.soar.vendor.tags import distinct
from include.soar.vendor.wire import Request, Response, VendorShape, decode

VENDOR = "abuseipdb"

#: The vendor's page about an address, for a person. Shown, never fetched.
PAGE = "https://www.abuseipdb.com/check/"

TIMEOUT_SECONDS = 20.0
#: The blacklist has 10,000 rows for a free key and up to 500,000 for others, in JSON about 110 bytes each.
BLACKLIST_TIMEOUT_SECONDS = 120.0
LARGEST_BLACKLIST_BYTES = 96 * 2**20

#: 402: a plan's limit (e.g. maxAgeInDays), 422: a parameter. Both cost the item only.
REJECTED_STATUSES = (402, 422)

#: A free key's requests a day; each endpoint counts by itself. https://docs.abuseipdb.com/#api-daily-rate-limits
#: Inferred: that the day is UTC's. What the answers' headers say goes before these figures.
_DAY = timedelta(days=1)
QUOTAS = (Quota("check", 1000, _DAY), Quota("blacklist", 5, _DAY), Quota("check-block", 100, _DAY))

#: How many rows of the blacklist a plan gives; a larger ``limit`` is cut without a word.
BLACKLIST_CAPS = (10_000, 100_000, 500_000)
LOWEST_CONFIDENCE = 25
#: The vendor makes the list anew once a day and asks for it to be flushed, since the worth of a report decays.
BLACKLIST_LIFE = timedelta(hours=36)

#: The widest network and the oldest report of check-block for a free key; the same width is asked of every plan.
BLOCK_PREFIX, BLOCK_MOST_DAYS = 24, 30


class CheckData(VendorShape):
    ipAddress: str
    # No default: a missing score is not a zero. Strict: true is not a one.
    abuseConfidenceScore: int = Field(ge=0, le=100, strict=True)
    totalReports: int = Field(ge=0)
    numDistinctUsers: int = Field(ge=0)
    countryCode: Cosmetic[str] = None
    usageType: Cosmetic[str] = None
    isp: Cosmetic[str] = None
    lastReportedAt: Instant | None = None


class CheckAnswer(VendorShape):
    data: CheckData


class ReportedAddress(VendorShape):
    ipAddress: str
    numReports: int = Field(ge=0)
    abuseConfidenceScore: int = Field(ge=0, le=100, strict=True)
    mostRecentReport: Cosmetic[Instant] = None
    countryCode: Cosmetic[str] = None


class BlockData(VendorShape):
    networkAddress: str
    netmask: str
    # No default: a list that is missing does not say that nothing was reported.
    reportedAddress: tuple[ReportedAddress, ...]


class BlockAnswer(VendorShape):
    data: BlockData


class BlacklistRow(VendorShape):
    ipAddress: str
    abuseConfidenceScore: int = Field(ge=LOWEST_CONFIDENCE, le=100, strict=True)
    countryCode: Cosmetic[str] = None
    lastReportedAt: Cosmetic[Instant] = None


class BlacklistMeta(VendorShape):
    generatedAt: Instant


class BlacklistAnswer(VendorShape):
    meta: BlacklistMeta
    data: tuple[BlacklistRow, ...]


# --- check --------------------------------------------------------------------------------------------------


def check_request(observable: Observable, *, max_age_days: int) -> Request:
    """
    Without ``verbose``: its up to 10,000 reports say nothing that the score and the totals do not.

    :param max_age_days: 1 to 365; reports older than that do not count
    """
    return Request(
        "GET",
        "/api/v2/check",
        operation="check",
        params=(("ipAddress", observable.value), ("maxAgeInDays", str(max_age_days))),
        timeout_seconds=TIMEOUT_SECONDS,
    )


def parse_check(observable: Observable, response: Response, *, known_at: datetime) -> Reputation:
    """
    A ``check`` answer as a reputation: listed when the score is above zero.

    Reports with a score of zero are normal (old, or outweighed), so they do not count as listed. ``isWhitelisted``
    is not read: the vendor's advice is to act on the score alone.

    :raises Unexpected: also when the answer is about another address
    """
    data = decode(VENDOR, "check", CheckAnswer, response.body).data
    if parse_address(data.ipAddress) != observable:
        raise Unexpected(VENDOR, "check", "data.ipAddress is not the address that was asked about")
    facts = [
        f"{data.totalReports} reports by {data.numDistinctUsers} users",
        data.usageType,
        data.isp,
        data.countryCode,
    ]
    return _reputation(
        observable,
        data.abuseConfidenceScore,
        facts,
        last_reported_at=data.lastReportedAt,
        digest=response.digest,
        known_at=known_at,
        # "Mobile ISP", say: whether many people are behind it.
        tags=distinct([data.usageType]),
    )


def _reputation(
    observable: Observable,
    score: int,
    facts: Iterable[str | None],
    *,
    last_reported_at: datetime | None,
    digest: str,
    known_at: datetime,
    tags: tuple[str, ...] = (),
) -> Reputation:
    return Reputation(
        observable=observable,
        provider=VENDOR,
        answer=Answer.LISTED if score > 0 else Answer.NOT_LISTED,
        score=score,
        summary=one_line(", ".join(fact for fact in facts if fact)),
        reference=PAGE + observable.value,
        last_reported_at=last_reported_at,
        body_digest=digest,
        known_at=known_at,
        tags=tags,
    )


# --- check-block --------------------------------------------------------------------------------------------


def crowded_blocks(observables: Iterable[Observable], *, at_least: int) -> dict[Observable, list[Observable]]:
    """
    The /24 networks in which so many of the addresses lie, each with them. IPv4 only: the plans' caps for IPv6 are
    not documented.

    :param at_least: 2 or more
    """
    blocks: dict[Observable, list[Observable]] = {}
    for observable in observables:
        if observable.type is ObservableType.IPV4:
            network = ipaddress.ip_network(f"{observable.value}/{BLOCK_PREFIX}", strict=False)
            blocks.setdefault(Observable(type=ObservableType.CIDR, value=str(network)), []).append(observable)
    return {block: members for block, members in blocks.items() if len(members) >= at_least}


def block_request(block: Observable, *, max_age_days: int) -> Request:
    """:param max_age_days: 1 to 365; 402 where it, or the network, is more than the plan allows"""
    return Request(
        "GET",
        "/api/v2/check-block",
        operation="check-block",
        params=(("network", block.value), ("maxAgeInDays", str(max_age_days))),
        timeout_seconds=TIMEOUT_SECONDS,
    )


def parse_block(
    block: Observable, members: Sequence[Observable], response: Response, *, max_age_days: int, known_at: datetime
) -> list[Reputation]:
    """
    A ``check-block`` answer as a reputation for each member. One that is not among the reported addresses is not
    listed: it had no report in those days.

    :raises Unexpected: also when the answer is about another network
    """
    data = decode(VENDOR, "check-block", BlockAnswer, response.body).data
    if _network(data.networkAddress, data.netmask) != ipaddress.ip_network(block.value):
        raise Unexpected(VENDOR, "check-block", "data.networkAddress and netmask are not the network asked about")
    reported = {parse_address(row.ipAddress): row for row in data.reportedAddress}
    if None in reported:
        # It may be any of the members: their absence from the list would say nothing.
        raise Unexpected(VENDOR, "check-block", "a reported address is not an address")
    digest = response.digest
    answers = []
    for observable in members:
        row = reported.get(observable)
        seen = f"{row.numReports if row else 'no'} reports in {max_age_days} days"
        answers.append(
            _reputation(
                observable,
                row.abuseConfidenceScore if row else 0,
                [f"{seen} (asked about {block.value})", row.countryCode if row else None],
                last_reported_at=row.mostRecentReport if row else None,
                digest=digest,
                known_at=known_at,
            )
        )
    return answers


def _network(address: str, netmask: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(f"{address}/{netmask}")
    except ValueError:
        return None


# --- blacklist ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listed:
    """:param score: at least so much; the plain text does not say more"""

    score: int
    country_code: str | None = None
    last_reported_at: datetime | None = None


@dataclass(frozen=True)
class Blacklist:
    """
    The worst addresses, as the vendor had them at one time. Who is not on it may still be bad.

    :param generated_at: when the vendor made the list, up to a day before it was downloaded
    :param rows: by the address as an observable spells it; half a million observables would take ten seconds to make
    """

    generated_at: datetime
    rows: Mapping[str, Listed]
    body_digest: str

    def is_fresh(self, now: datetime) -> bool:
        return now - self.generated_at < BLACKLIST_LIFE

    def answer(self, observable: Observable) -> Reputation | None:
        """None says nothing: the address is to be asked about."""
        row = self.rows.get(observable.value)
        if row is None:
            return None
        facts = [f"on the blacklist of {self.generated_at:%Y-%m-%d %H:%M}Z", row.country_code]
        return _reputation(
            observable,
            row.score,
            facts,
            last_reported_at=row.last_reported_at,
            digest=self.body_digest,
            known_at=self.generated_at,
        )


def blacklist_request(*, confidence_minimum: int, limit: int, plaintext: bool) -> Request:
    """
    :param confidence_minimum: 25 to 100; a free key silently gets the list of 100
    :param limit: rows; silently no more than the plan's
    :param plaintext: addresses only, which is a tenth of the bytes
    """
    return Request(
        "GET",
        "/api/v2/blacklist",
        operation="blacklist",
        params=(
            ("confidenceMinimum", str(confidence_minimum)),
            ("limit", str(limit)),
            *((("plaintext", ""),) if plaintext else ()),
        ),
        timeout_seconds=BLACKLIST_TIMEOUT_SECONDS,
        largest_bytes=LARGEST_BLACKLIST_BYTES,
    )


def parse_blacklist(response: Response, *, confidence_minimum: int) -> Blacklist:
    """
    A ``blacklist`` answer in either form; the plain text carries its time in ``X-Generated-At``.

    :param confidence_minimum: as asked; the score of every row of a plain text
    :raises Unexpected: also for an empty list, which the vendor does not have
    """
    if "x-generated-at" in response.headers:
        generated_at, rows = _plain_rows(response, confidence_minimum)
    else:
        answer = decode(VENDOR, "blacklist", BlacklistAnswer, response.body)
        generated_at = answer.meta.generatedAt
        rows = {
            _listed_address(row.ipAddress): Listed(row.abuseConfidenceScore, row.countryCode, row.lastReportedAt)
            for row in answer.data
        }
    if not rows:
        raise Unexpected(VENDOR, "blacklist", "the list is empty")
    return Blacklist(generated_at, rows, response.digest)


def _plain_rows(response: Response, score: int) -> tuple[datetime, dict[str, Listed]]:
    try:
        generated_at = TypeAdapter(Instant).validate_python(response.headers["x-generated-at"])
    except ValidationError:
        raise Unexpected(VENDOR, "blacklist", "X-Generated-At is not a time") from None
    # A list that was cut may end in the middle of an address, which can read as another one.
    whole = response.body[: response.body.rfind(b"\n") + 1]
    lines = whole.decode("utf-8", "replace").split()
    return generated_at, {_listed_address(line): Listed(score) for line in lines}


def _listed_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise Unexpected(VENDOR, "blacklist", "a row is not an address") from None


def blacklist_remarks(blacklist: Blacklist, *, confidence_minimum: int, limit: int) -> list[str]:
    """What the vendor left out without saying so, in words for the log."""
    remarks = []
    lowest, count = min(row.score for row in blacklist.rows.values()), len(blacklist.rows)
    if confidence_minimum < lowest == 100:
        remarks.append(f"asked for scores from {confidence_minimum}, given only 100: probably the plan allows no less")
    if count < limit and count in BLACKLIST_CAPS:
        remarks.append(f"asked for {limit:,} rows, given {count:,}: cut to the plan's size")
    return remarks


def quota_seen(response: Response) -> QuotaSeen | None:
    """
    What an answer says about its endpoint's day: limit and remaining calls on each, and when it ends on a 429
    (https://docs.abuseipdb.com/#api-daily-rate-limits). A header that is no number says nothing.
    """

    def number(name: str) -> int | None:
        text = response.headers.get(name, "").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None

    limit, remaining, reset = (number(f"x-ratelimit-{word}") for word in ("limit", "remaining", "reset"))
    if limit is None and remaining is None and reset is None:
        return None
    return QuotaSeen(limit, remaining, datetime.fromtimestamp(reset, UTC) if reset else None)
