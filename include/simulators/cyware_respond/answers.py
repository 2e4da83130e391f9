"""Bodies and errors of Respond, in the words of Django REST Framework (inferred: none is documented)."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import Request
from starlette.datastructures import URL

Record = dict[str, Any]
Node = tuple[str, str]  # component identifier, unique_id
BY_NAME = "readable_type"
#: What a row of a list holds (inferred; the one known client fetches the detail because rows are poorer).
INCIDENT_ROW = ("unique_id", "readable_id", "title", "status", "level", "labels", "created", "modified")
DEFAULT_DETAIL = {
    400: "Invalid input.",
    401: "Incorrect authentication credentials.",
    403: "You do not have permission to perform this action.",
    404: "Not found.",
    429: "Request was throttled.",
    500: "A server error occurred.",
}


class Refused(Exception):
    """An answer other than success: status, body without the envelope of ``error_style``, headers."""

    def __init__(self, status: int, body: str | dict[str, Any] | None = None, **headers: str) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = headers


@dataclass(frozen=True)
class Call:
    """An authenticated request."""

    url: URL
    path: dict[str, str]
    query: dict[str, str]
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def by_name(self) -> bool:
        return self.query.get("values") == BY_NAME


def public(record: Record) -> Record:
    return {key: value for key, value in record.items() if not key.startswith("_")}


def fixed_id(seed: str) -> str:
    """Looks like a random UUID, and is the same in every run."""
    return str(UUID(bytes=hashlib.sha256(f"cyware-respond/{seed}".encode()).digest()[:16], version=4))


def stamp(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def positive(value: str | None) -> int | None:
    return int(value) if value and re.fullmatch(r"[0-9]{1,9}", value) and int(value) > 0 else None


def read_json(request: Request, raw: bytes) -> dict[str, Any]:
    media_type = request.headers.get("Content-Type", "")
    if media_type.partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, f'Unsupported media type "{media_type}" in request.')
    try:
        body = json.loads(raw)
    except ValueError as problem:
        raise Refused(400, f"JSON parse error - {problem}") from problem
    if not isinstance(body, dict):
        problem_text = f"Invalid data. Expected a dictionary, but got {type(body).__name__}."
        raise Refused(400, {"non_field_errors": [problem_text]})
    return body
