"""AbuseIPDB APIv2 without I/O. Field names are the vendor's. https://docs.abuseipdb.com/#check-endpoint"""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime, Field

from include.soar.errors import Unexpected
from include.soar.model import Answer, Observable, Reputation
from include.soar.observables import parse_address
from include.soar.wire import Request, Response, VendorShape, decode

VENDOR = "abuseipdb"

#: The vendor's page about an address, for a person. Shown, never fetched.
PAGE = "https://www.abuseipdb.com/check/"

TIMEOUT_SECONDS = 20.0

#: 402: a plan's limit (e.g. maxAgeInDays), 422: a parameter. Both cost the item only.
REJECTED_STATUSES = (402, 422)


class CheckData(VendorShape):
    ipAddress: str
    # No default: a missing score is not a zero. Strict: true is not a one.
    abuseConfidenceScore: int = Field(ge=0, le=100, strict=True)
    totalReports: int = Field(ge=0)
    numDistinctUsers: int = Field(ge=0)
    countryCode: str | None = None
    usageType: str | None = None
    isp: str | None = None
    lastReportedAt: AwareDatetime | None = None


class CheckAnswer(VendorShape):
    data: CheckData


def check_request(observable: Observable, *, max_age_days: int) -> Request:
    """:param max_age_days: 1 to 365; reports older than that do not count"""
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
    return Reputation(
        observable=observable,
        provider=VENDOR,
        answer=Answer.LISTED if data.abuseConfidenceScore > 0 else Answer.NOT_LISTED,
        score=data.abuseConfidenceScore,
        summary=", ".join(fact for fact in facts if fact),
        reference=PAGE + observable.value,
        last_reported_at=data.lastReportedAt,
        known_at=known_at,
    )
