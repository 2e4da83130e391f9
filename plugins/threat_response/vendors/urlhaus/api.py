"""URLhaus (abuse.ch) without I/O: who spreads malware. Field names are the vendor's. https://urlhaus-api.abuse.ch/

Every answer is a 200 with a ``query_status``, and only two of its words are answers. Numbers come as text.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import AliasChoices, BeforeValidator, Field

from include.soar.extract.values import parse_address
from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor import abuse_ch
from include.soar.vendor.abuse_ch import Moment
from include.soar.vendor.errors import Unexpected, one_line
from include.soar.vendor.lenient import Cosmetic, CosmeticRows, Labels, Rows
from include.soar.vendor.tags import distinct
from include.soar.vendor.wire import Request, Response, VendorShape, decode

VENDOR = "urlhaus"

#: The vendor's pages, for a person. Shown, never fetched.
SITE = "https://urlhaus.abuse.ch/"
TIMEOUT_SECONDS = 20.0

# Third party or inferred: the vendor's page does not settle these.
#: The vendor's page spells the key wrong in its example of a host.
STATUS_SPELLINGS = ("query_status", "query_staus")
#: Words for a value that URLhaus cannot take. The hashes' are seen in both spellings.
REFUSED = frozenset(
    {"invalid_url", "invalid_host", "invalid_md5", "invalid_sha256", "invalid_md5_hash", "invalid_sha256_hash"}
)
#: A host that Spamhaus DBL calls ``abused_legit_malware``: malware that was put on a good site.
ABUSED_LEGIT = "abused_legit"
#: Badness: a URL or host that spreads malware now, one of which that is not known, one that did once.
ONLINE, UNCERTAIN, OFFLINE = 90, 70, 50
#: The most that is said of a good host that is abused: below what a policy takes for malicious.
ABUSED_AT_MOST = 40
#: A file that was spread, with and without a malware family to its name.
FAMILY, NAMELESS = 95, 60

HASH_FIELDS = {"MD5": "md5_hash", "SHA-256": "sha256_hash"}
LONGEST_LINK = 300


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is wanted")
    return value


#: "10" is a 10, true is not a 1.
Number = Annotated[int, BeforeValidator(_no_switch), Field(ge=0)]


class Status(abuse_ch.Status):
    query_status: str = Field(min_length=1, validation_alias=AliasChoices(*STATUS_SPELLINGS))


class Blacklists(VendorShape):
    spamhaus_dbl: str | None = None
    surbl: Cosmetic[str] = None


class HostUrl(VendorShape):
    url_status: str
    date_added: Moment
    tags: Labels = ()


class HostAnswer(VendorShape):
    host: str
    urlhaus_reference: Cosmetic[str] = None
    firstseen: Moment | None = None
    url_count: Number = Field(ge=1)
    blacklists: Blacklists | None = None
    urls: tuple[HostUrl, ...]


class UrlPayload(VendorShape):
    signature: Cosmetic[str] = None


class UrlAnswer(VendorShape):
    url: str
    urlhaus_reference: Cosmetic[str] = None
    url_status: str
    date_added: Moment
    last_online: Moment | None = None
    threat: Cosmetic[str] = None
    blacklists: Blacklists | None = None
    tags: Labels = ()
    payloads: CosmeticRows[UrlPayload] = ()


class PayloadUrl(VendorShape):
    url_status: str


class PayloadAnswer(VendorShape):
    # No default: null says that URLhaus does not know the file, and their absence says nothing.
    md5_hash: str | None
    sha256_hash: str | None
    file_type: Cosmetic[str] = None
    signature: str | None = None
    firstseen: Moment | None = None
    lastseen: Moment | None = None
    url_count: Number | None
    urls: Rows[PayloadUrl] = ()

    @property
    def is_empty(self) -> bool:
        """An ``ok`` about a file that URLhaus has never seen (TheHive-Project/Cortex-Analyzers #485)."""
        return self.md5_hash is self.sha256_hash is None and not (self.url_count or self.urls or self.signature)


def lookup_request(observable: Observable) -> Request:
    """A question, although it is a POST: nothing is submitted, and URLhaus fetches nothing for it."""
    if observable.type is ObservableType.URL:
        operation, field = "url", "url"
    elif observable.type is ObservableType.FILE:
        operation, field = "payload", HASH_FIELDS[observable.hash_algorithm]
    else:
        operation, field = "host", "host"
    return Request(
        "POST",
        f"/v1/{operation}/",
        operation=operation,
        form={field: observable.value},
        timeout_seconds=TIMEOUT_SECONDS,
    )


def is_found(operation: str, response: Response) -> bool:
    """See ``abuse_ch.is_found``."""
    return abuse_ch.is_found(VENDOR, operation, response, nothing="no_results", refused=REFUSED, shape=Status)


def parse_lookup(observable: Observable, response: Response, *, known_at: datetime) -> Reputation:
    """
    An answer of ``host``, ``url`` or ``payload`` as a reputation: listed when URLhaus has a record of it.

    :raises Rejected, Unauthorized, Unexpected: see :func:`is_found`; also when the answer is about another value
    """
    operation = lookup_request(observable).operation
    said: dict[str, Any] = {
        "observable": observable,
        "provider": VENDOR,
        "answer": Answer.NOT_LISTED,
        "score": 0,
        "summary": "no record",
        "reference": f"{SITE}browse.php?search={quote(observable.value, safe='')}",
        "body_digest": response.digest,
        "known_at": known_at,
    }
    if is_found(operation, response):
        parse = {"host": _host, "url": _url, "payload": _payload}[operation]
        said |= parse(observable, response)
    return Reputation(**said)


def badness(statuses: list[str], blacklists: Blacklists | None) -> int:
    """
    URLs as a score of 0-100: 90 when one spreads malware now, 70 when that is not known of one, 50 when all are
    offline; never above 40 for a good site that is abused, however many its URLs are.
    """
    score = ONLINE if "online" in statuses else OFFLINE if set(statuses) == {"offline"} else UNCERTAIN
    return min(score, ABUSED_AT_MOST) if _is_abused(blacklists) else score


def _is_abused(blacklists: Blacklists | None) -> bool:
    return blacklists is not None and (blacklists.spamhaus_dbl or "").startswith(ABUSED_LEGIT)


def _host(observable: Observable, response: Response) -> dict[str, Any]:
    answer = decode(VENDOR, "host", HostAnswer, response.body)
    same = parse_address(answer.host) == observable if observable.is_address else _name(answer.host) == observable.value
    if not same:
        raise Unexpected(VENDOR, "host", "host is not the value that was asked about")
    statuses = [url.url_status for url in answer.urls]
    added = [url.date_added for url in answer.urls]
    return {
        "answer": Answer.LISTED,
        "score": badness(statuses, answer.blacklists),
        "summary": _summary(
            "1 malware URL" if answer.url_count == 1 else f"{answer.url_count} malware URLs",
            f"{statuses.count('online')} online",
            *_blacklisted(answer.blacklists),
        ),
        "tags": distinct([tag for url in answer.urls for tag in url.tags]),
        "first_reported_at": answer.firstseen or min(added, default=None),
        "last_reported_at": max(added, default=None),
        **_reference(answer.urlhaus_reference),
    }


def _url(observable: Observable, response: Response) -> dict[str, Any]:
    answer = decode(VENDOR, "url", UrlAnswer, response.body)
    # URLhaus may spell the rest of a URL its own way.
    if _host_of(answer.url) != _host_of(observable.value):
        raise Unexpected(VENDOR, "url", "url is on another host than the one that was asked about")
    families = [p.signature for p in answer.payloads if p and p.signature]
    return {
        "answer": Answer.LISTED,
        "score": badness([answer.url_status], answer.blacklists),
        "summary": _summary(answer.threat, answer.url_status, *_blacklisted(answer.blacklists)),
        "tags": distinct([*families, *answer.tags]),
        "first_reported_at": answer.date_added,
        "last_reported_at": answer.last_online or answer.date_added,
        **_reference(answer.urlhaus_reference),
    }


def _payload(observable: Observable, response: Response) -> dict[str, Any]:
    answer = decode(VENDOR, "payload", PayloadAnswer, response.body)
    if answer.is_empty:
        return {}
    if observable.value not in {name.lower() for name in (answer.md5_hash, answer.sha256_hash) if name}:
        raise Unexpected(VENDOR, "payload", "neither hash is the one that was asked about")
    online = sum(url.url_status == "online" for url in answer.urls)
    spread = f"spread by {answer.url_count} URLs"
    return {
        "answer": Answer.LISTED,
        "score": FAMILY if answer.signature else NAMELESS,
        "summary": _summary(answer.signature, answer.file_type, spread, f"{online} online"),
        "tags": distinct([answer.signature] if answer.signature else []),
        "first_reported_at": answer.firstseen,
        "last_reported_at": answer.lastseen or answer.firstseen,
    }


def _summary(*facts: str | None) -> str:
    return ", ".join(one_line(fact, 80) for fact in facts if fact)


def _blacklisted(blacklists: Blacklists | None) -> list[str]:
    if blacklists is None:
        return []
    named = {"Spamhaus DBL": blacklists.spamhaus_dbl, "SURBL": blacklists.surbl}
    return [f"{name}: {word}" for name, word in named.items() if word and word != "not listed"]


def _reference(link: str | None) -> dict[str, str]:
    """The vendor's link, if it is one of the vendor's: it is shown to a person."""
    return {"reference": link} if link and link.startswith(SITE) and len(link) <= LONGEST_LINK else {}


def _name(host: str) -> str:
    return host.lower().rstrip(".")


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
