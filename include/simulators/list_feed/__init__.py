"""A static file server for blocklists, such as Spamhaus DROP or a team's own list of domains.

``GET /feeds/{name}`` answers with ``ETag`` and ``Last-Modified`` and honours ``If-None-Match`` (which wins) and
``If-Modified-Since`` with 304, as RFC 9110 section 13 says. Errors are the HTML pages of a web server.

Seed: ``{"files": {"drop_v4.json": "...", "demo-domains.txt": "..."}}``. Instead of its text a file may be
``{"text": "...", "_available_at": "2026-01-01T00:00:00Z"}``, and is then 404 until the clock passes that time.
Seeding a file again with another text changes both validators; with the same text, neither.

Knobs: ``min_interval_seconds`` (0: no limit; a file asked for again sooner is refused, as Spamhaus asks for at most
one pull an hour and firewalls others); ``refusal_status`` (429 with ``Retry-After``, or 403 without);
``basic_user`` and ``basic_password``; ``header_name`` and ``header_value`` (as abuse.ch's ``Auth-Key``).

Not imitated: compression, ranges, redirects, a firewall that drops packets (use the ``reset`` fault). Inferred: that
a pull answered with 304 counts towards the interval, that each file has its own, and both refusals' bodies.
"""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import Response

from include.simulators.kit import Clock, Simulator, parse_instant

MEDIA_TYPES = {"json": "application/json", "csv": "text/csv", "txt": "text/plain"}


@dataclass
class StoredFile:
    text: str
    etag: str
    modified_at: datetime
    available_at: datetime | None
    pulls: int = 0
    pulled_at: datetime | None = None


class ListFeedSimulator(Simulator):
    product = "list_feed"
    prefixes = ("/feeds",)
    settings = {
        "min_interval_seconds": 0,
        "refusal_status": 429,
        "basic_user": None,
        "basic_password": None,
        "header_name": None,
        "header_value": None,
    }

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.router.add_api_route("/feeds/{name:path}", self.pull, methods=["GET", "HEAD"], response_model=None)

    def clear(self) -> None:
        self.files: dict[str, StoredFile] = {}

    def seed(self, data: dict[str, Any]) -> None:
        if set(data) - {"files"}:
            raise HTTPException(400, f"list_feed: unknown seed members {sorted(set(data) - {'files'})}")
        for name, given in data["files"].items():
            record = {"text": given} if isinstance(given, str) else given
            etag = f'"{hashlib.sha256(record["text"].encode()).hexdigest()[:32]}"'
            if name in self.files and self.files[name].etag == etag:
                continue
            hidden_until = record.get("_available_at")
            available_at = parse_instant(hidden_until) if hidden_until else None
            modified_at = (available_at or self.clock.now()).replace(microsecond=0)  # HTTP dates have whole seconds
            self.files[name] = StoredFile(record["text"], etag, modified_at, available_at)

    def snapshot(self) -> dict[str, Any]:
        return {
            "files": {
                name: {
                    "etag": file.etag,
                    "last_modified": _http_date(file.modified_at),
                    "bytes": len(file.text.encode()),
                    "pulls": file.pulls,
                }
                for name, file in self.files.items()
            }
        }

    def error(self, status: int, detail: str | None = None) -> Response:
        title = f"{status} {detail or HTTPStatus(status).phrase}"
        page = f"<html><head><title>{title}</title></head><body><center><h1>{title}</h1></center></body></html>\n"
        return Response(page, status, media_type="text/html")

    async def pull(self, request: Request, name: str) -> Response:
        refusal = self._refuse_stranger(request)
        if refusal:
            return refusal
        now = self.clock.now()
        file = self.files.get(name)
        if file is None or (file.available_at and file.available_at > now):
            return self.error(404)
        if file.pulled_at is not None:
            wait = (file.pulled_at + timedelta(seconds=self.knobs["min_interval_seconds"]) - now).total_seconds()
            if wait > 0:
                answer = self.error(self.knobs["refusal_status"])
                if answer.status_code == 429:
                    answer.headers["Retry-After"] = str(math.ceil(wait))
                return answer
        file.pulled_at = now
        file.pulls += 1
        headers = {"ETag": file.etag, "Last-Modified": _http_date(file.modified_at)}
        if _is_fresh(request, file):
            return Response(status_code=304, headers=headers)
        media_type = MEDIA_TYPES.get(name.rpartition(".")[2], "text/plain")
        return Response(file.text, media_type=media_type, headers=headers | {"Cache-Control": "no-cache"})

    def _refuse_stranger(self, request: Request) -> Response | None:
        if self.knobs["basic_user"] is not None:
            pair = f"{self.knobs['basic_user']}:{self.knobs['basic_password'] or ''}"
            if request.headers.get("authorization") != f"Basic {base64.b64encode(pair.encode()).decode()}":
                answer = self.error(401)
                answer.headers["WWW-Authenticate"] = 'Basic realm="feeds"'
                return answer
        header = self.knobs["header_name"]
        if header is not None and request.headers.get(header) != self.knobs["header_value"]:
            return self.error(401)
        return None


def _http_date(instant: datetime) -> str:
    return format_datetime(instant.astimezone(UTC), usegmt=True)


def _is_fresh(request: Request, file: StoredFile) -> bool:
    tags = request.headers.get("if-none-match")
    if tags is not None:
        known = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        return bool(known & {file.etag, "*"})
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return file.modified_at <= parsedate_to_datetime(since)
    except (ValueError, TypeError):  # a date that cannot be read, or has no zone, is ignored
        return False
