"""Between HTTP and our types, without doing HTTP: requests as values, status to error, body to shape."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from include.soar.model.text import storable_json
from include.soar.vendor.errors import (
    ClockSkew,
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    Unexpected,
    VendorError,
)


class VendorShape(BaseModel):
    """
    Base of the shapes that vendors send. Lenient on fields we do not know (vendors add them), strict on those
    we name: a field that carries meaning has no default, so that its absence is an error and not a zero.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


Shape = TypeVar("Shape", bound=BaseModel)

#: For an answer, unpacked. The largest that is usual, a page of 5,000 rows of SIA, has some 10 MB.
LARGEST_BYTES = 64 * 2**20
#: For an exchange from its first byte to its last: at 200 kB a second the largest answer arrives in time.
TOTAL_SECONDS = 330.0


@dataclass(frozen=True)
class Request:
    """
    One call, as a value.

    :param path: starts with ``/``; already percent-encoded where it holds a foreign value
    :param operation: the name for logs and errors, e.g. ``check``
    :param params: query pairs, in order; a name may repeat
    :param json: body as JSON, or None
    :param form: body as a form, or None
    :param writes: True when the call changes something at the vendor; refused in plan mode
    :param timeout_seconds: for connecting, and for every wait for bytes
    :param total_seconds: for the whole exchange: one that takes longer is cut
    :param largest_bytes: a longer answer, unpacked, is ``Unexpected`` and not read to its end
    """

    method: str
    path: str
    operation: str
    params: tuple[tuple[str, str], ...] = ()
    json: Any = None
    form: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    writes: bool = False
    timeout_seconds: float = 60.0
    total_seconds: float = TOTAL_SECONDS
    largest_bytes: int = LARGEST_BYTES


@dataclass(frozen=True)
class Response:
    """``headers`` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def digest(self) -> str:
        """Which body it was, for the record of what was judged by it."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def request_id(self) -> str | None:
        for name in ("x-request-id", "x-trace-id", "x-cs-traceid", "x-akamai-request-id"):
            if name in self.headers:
                return self.headers[name]
        return None


_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """
    How long a vendor asks us to wait, in seconds, never negative; None where it does not say.

    Reads ``Retry-After`` in both forms of RFC 9110 (seconds, HTTP date), Akamai's ``X-RateLimit-Next`` (ISO
    time) and CrowdStrike's ``X-RateLimit-RetryAfter`` (epoch seconds).
    """
    moment: datetime | None = None
    try:
        if value := headers.get("retry-after"):
            if _NUMBER.fullmatch(value.strip()):
                return float(value)
            moment = parsedate_to_datetime(value)
        elif (value := headers.get("x-ratelimit-retryafter")) and _NUMBER.fullmatch(value.strip()):
            moment = datetime.fromtimestamp(float(value), UTC)
        elif value := headers.get("x-ratelimit-next"):
            moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (ValueError, OverflowError, OSError):  # not a time, or one outside of what a clock can say
        return None
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def error_text(body: bytes) -> str:
    """The vendor's own words in an error body, whatever its shape; never more than a line. Not for decisions."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return "answer is not JSON" if body else "empty answer"
    return _words(document) or "no reason given"


#: So deep an error body is looked into.
_DEEPEST_WORDS = 20


def _words(document: Any, depth: int = 0) -> str:
    if isinstance(document, str):
        return document
    if depth > _DEEPEST_WORDS:
        return ""
    if isinstance(document, list):
        return "; ".join(filter(None, (_words(item, depth + 1) for item in document[:3])))
    if isinstance(document, dict):
        for key in ("detail", "message", "error", "title", "errors", "messages", "text", "result", "non_field_error"):
            if words := _words(document.get(key), depth + 1):
                return words
        return "; ".join(
            f"{key}: {words}" for key, value in list(document.items())[:3] if (words := _words(value, depth + 1))
        )
    return ""


#: What a proxy or gateway before the vendor answers in its place; with 5xx it is ``Unavailable`` in any case.
GATEWAYS_STATUSES = frozenset({401, 403, *range(500, 600)})
#: A gateway that is restarted looks like one that refuses, so it is tried again; neither says anything about the key.
GATEWAYS_PAGE = "a page in HTML instead of the vendor's answer: a proxy or gateway before it refuses, or is down"


def is_page(response: Response) -> bool:
    """Whether an answer is a page for a person: HTML."""
    start = response.body[:200].lstrip().lower()
    return "html" in response.headers.get("content-type", "").lower() or start.startswith((b"<!doctype html", b"<html"))


#: How a vendor says that it is the request's time which it refuses.
_TIME_REFUSED = re.compile(r"timestamp|clock|expired|\bexpires\b.{0,20}\b(?:past|future)\b", re.I)


def failure(
    vendor: str,
    operation: str,
    response: Response,
    now: datetime,
    *,
    rejected: Iterable[int] = (),
    unavailable: Iterable[int] = (),
    own_pages: bool = False,
) -> VendorError | None:
    """
    The error that a status means, or None for 2xx.

    :param now: the time against which a Retry-After date is measured
    :param rejected: statuses that at this vendor mean "this item is wrong" although the general rule differs
    :param unavailable: statuses that at this vendor mean "try again"
    :param own_pages: whether the vendor itself may refuse with a page in HTML, as a plain web server does
    """
    status = response.status
    if 200 <= status < 300:
        return None
    of_a_gateway = status in GATEWAYS_STATUSES and not own_pages and is_page(response)
    reason = GATEWAYS_PAGE if of_a_gateway else error_text(response.body)
    if status == 429:
        return RateLimited(
            vendor,
            operation,
            reason,
            retry_after=retry_after_seconds(response.headers, now),
            request_id=response.request_id,
        )
    kind: type[VendorError]
    if status in rejected and not of_a_gateway:
        kind = Rejected
    elif of_a_gateway or status in unavailable or status == 408 or status >= 500:
        kind = Unavailable
    elif status in (401, 403, 407):
        kind = ClockSkew if _TIME_REFUSED.search(reason) else Unauthorized
    elif 400 <= status < 500:
        kind = Rejected
    else:
        kind = Unexpected
    return kind(vendor, operation, reason, status=status, request_id=response.request_id)


def load_json(vendor: str, operation: str, body: bytes) -> Any:
    """
    The body as JSON, with U+FFFD for what no store can carry (include/soar/model/text.py).

    :raises Unavailable: the text stops in the middle of JSON (a cut connection): asking again may help
    :raises Unexpected: it is something else, e.g. a proxy's HTML page with status 200, or not UTF-8
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:  # also a number too long, or nested too deep, to be read
        starts_like_json = body.lstrip()[:1] in (b"{", b"[")
        if starts_like_json and _is_cut(error):
            raise Unavailable(vendor, operation, f"answer ends early, after {len(body)} bytes") from None
        problem = "is not UTF-8" if starts_like_json and isinstance(error, UnicodeDecodeError) else "is not JSON"
        raise Unexpected(vendor, operation, f"answer {problem} ({len(body)} bytes)") from None
    return storable_json(document) if _MAY_BE_UNSTORABLE.search(body) else document


#: The escapes of U+0000 and of surrogates (a whole pair too), surrogates in bytes, and anything but UTF-8.
_MAY_BE_UNSTORABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|\xed[\xa0-\xbf]|\x00")


#: Bytes of a character in UTF-8, at most.
_LONGEST_CHARACTER = 4


def _is_cut(error: ValueError | RecursionError) -> bool:
    """Whether JSON could not be read because it ends too early, in the middle of a character too."""
    if isinstance(error, UnicodeDecodeError):
        return error.reason == "unexpected end of data" and error.start >= len(error.object) - _LONGEST_CHARACTER + 1
    if not isinstance(error, json.JSONDecodeError):
        return False
    rest = error.doc[error.pos :].rstrip()
    in_a_word = any(word.startswith(rest) for word in ("true", "false", "null", "e+", "e-"))
    in_an_escape = "escape" in error.msg and len(rest) < len("\\u1234")
    return "Unterminated" in error.msg or len(rest) <= 1 or in_a_word or in_an_escape


def decode(vendor: str, operation: str, shape: type[Shape], body: bytes | Any) -> Shape:
    """
    A body (bytes, or JSON already loaded) as ``shape``.

    :raises Unexpected: naming the first field that is missing or of another kind
    """
    document = load_json(vendor, operation, body) if isinstance(body, bytes) else body
    try:
        return shape.model_validate(document)
    except ValidationError as error:
        raise Unexpected(vendor, operation, f"answer is not as documented: {first_problem(error)}") from None


def first_problem(error: ValidationError) -> str:
    """``field: problem`` of a validation error's first entry. The offending value is left out: it is foreign."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "(whole)"
    more = f" (+{error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {first['msg']}{more}"
