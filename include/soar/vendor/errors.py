"""The five errors, named by what happens next. ``wire.py`` makes them, ``VendorRetryPolicy`` turns them into retries.

Three kinds of ``Unauthorized`` also say what the person must look at, for *Test connection*.

``str(error)`` is always safe to log: vendor, operation, status, request id and a short reason. No header, body,
query string or URL ever gets in.
"""

from __future__ import annotations

import re
from typing import Any

from include.soar.vendor.redaction import KNOWN

#: Controls, line ends, marks that turn the reading direction, and halves of characters that no log file can hold.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


#: Of a vendor's own words no more is read than this.
LONGEST_WORDS = 4_000


def one_line(text: object, limit: int = 300) -> str:
    """``text`` on one printable line of at most ``limit`` characters, so that no input can forge a log line."""
    line = _UNPRINTABLE.sub(" ", str(text)).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


class Ours(str):
    """A text in which no vendor has a word, so that nothing is taken out of it: a secret may hold words of ours."""


def shown(text: object, limit: int = 300) -> str:
    """:func:`one_line` of a text that may quote a vendor: without any piece of a secret that this process knows."""
    return one_line(text if isinstance(text, Ours) else KNOWN.redact(str(text)[:LONGEST_WORDS]), limit)


class VendorError(Exception):
    """Base of the five. ``reason`` is shortened to one printable line, and holds no piece of a secret."""

    #: What the reader should do; part of the message.
    next_step = ""
    #: Characters of the reason.
    longest = 300

    def __init__(
        self,
        vendor: str,
        operation: str,
        reason: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        self.vendor = vendor
        self.operation = operation
        self.reason = shown(reason, self.longest)
        self.status = status
        self.request_id = shown(request_id, 80) if request_id else None
        super().__init__(vendor, operation, self.reason, status, self.request_id)

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the class with five positional arguments, which it does not take.
        return _restored, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        return f"{self.facts}; {self.next_step}"

    @property
    def facts(self) -> str:
        """What happened, without what a task does next."""
        status = f" [HTTP {self.status}]" if self.status is not None else ""
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.vendor} {self.operation}: {self.reason}{status}{request}"


def _restored(kind: type[VendorError], args: tuple[Any, ...], facts: dict[str, Any]) -> VendorError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


class Unavailable(VendorError):
    """Nothing wrong with us: time-out, refused connection, 5xx, an answer that ends early. Try again."""

    next_step = "will be tried again"


class RateLimited(VendorError):
    """The vendor asked us to wait. ``retry_after`` is in seconds, None where the vendor named no time."""

    next_step = "will be tried again when the vendor allows"

    def __init__(
        self,
        vendor: str,
        operation: str,
        reason: str,
        *,
        retry_after: float | None = None,
        status: int | None = 429,
        request_id: str | None = None,
    ) -> None:
        super().__init__(vendor, operation, reason, status=status, request_id=request_id)
        self.retry_after = retry_after


class Unauthorized(VendorError):
    """Wrong key, missing grant, or one of the kinds below. A person must act; retrying would only lock the account."""

    next_step = "a person must check the connection"


class WrongConnection(Unauthorized):
    """A field of the Airflow connection is missing, unknown or wrong. Nothing was asked."""


class UntrustedHost(Unauthorized):
    """The host's TLS certificate is not trusted: the wrong host, or an authority that this machine does not know."""


class ClockSkew(Unauthorized):
    """The vendor refuses the time in a signature: this machine's clock is wrong, or the signature came too late."""


class Rejected(VendorError):
    """This item is wrong for this vendor. The other items go on."""

    next_step = "this item is left out, the others go on"


class Unexpected(VendorError):
    """The answer is not what we know. Stop rather than guess."""

    next_step = "stopped, since guessing could lose or misread data"


class RecordProblem(ValueError):
    """A vendor's record that cannot be read: which field, and what is wrong with it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class WriteInPlanMode(RuntimeError):
    """A bug of ours: something tried to write while the run only plans. Refused at the HTTP boundary."""
