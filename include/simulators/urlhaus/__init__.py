"""URLhaus (abuse.ch), the three questions of its API (https://urlhaus-api.abuse.ch/).

``POST /v1/url/`` (form ``url``), ``/v1/host/`` (``host``) and ``/v1/payload/`` (``md5_hash`` or ``sha256_hash``), the
key in ``Auth-Key``. Every answer to a known key is a 200 with a ``query_status``; numbers and booleans come as text.

Seed::

    {"urls": [{"url": "http://203.0.113.9/mirai.mips", "url_status": "online", "threat": "malware_download",
               "tags": ["elf"], "date_added": "2026-11-24 10:00:00 UTC", "last_online": null,
               "payloads": [{"sha256": "…", "md5": "…", "signature": "Mirai", "file_type": "elf"}]}],
     "blacklists": {"files.example": {"spamhaus_dbl": "abused_legit_malware", "surbl": "listed"}}}

All three answers follow from the URLs, so they agree with each other. What a URL leaves out is made up; without
``date_added`` it was added when it was seeded.

Knobs: ``api_key``; ``misspell_status`` (the host answer then spells its key ``query_staus``, as the vendor's example
does).

Not imitated: recent URLs and payloads, lookup by id or tag, downloads, submission, how URLs are normalised, fair use.
Recorded by third parties: 401 without a key, 403 for an unknown one, and the shapes of ``url`` and ``payload``.
Inferred: that a missing field gets the word of an invalid value. Stricter than the vendor: an unknown field is refused.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, Response

from include.simulators.abuse_ch import AbuseChSimulator, said
from include.simulators.kit import Clock

SITE = "https://urlhaus.abuse.ch"
ENDPOINTS = ("url", "host", "payload")
FIELDS = {"url": {"url"}, "host": {"host"}, "payload": {"md5_hash", "sha256_hash"}}
HOST_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]", re.I)
HASH_LENGTHS = {"md5_hash": 32, "sha256_hash": 64}
URL_MEMBERS = frozenset(
    {"url", "url_status", "threat", "tags", "reporter", "date_added", "last_online", "larted", "payloads"}
)
PAYLOAD_MEMBERS = frozenset({"sha256", "md5", "signature", "file_type", "filename", "size", "firstseen"})
NOT_LISTED = {"spamhaus_dbl": "not listed", "surbl": "not listed"}
FIRST_ID = 2758900


class UrlhausSimulator(AbuseChSimulator):
    product = "urlhaus"
    prefixes = tuple(f"/v1/{endpoint}" for endpoint in ENDPOINTS)
    settings = {"api_key": "demo-urlhaus-key", "misspell_status": False}

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        for endpoint, handler in zip(ENDPOINTS, (self.url, self.host, self.payload), strict=True):
            # A client in use leaves the slash out, so the vendor takes both.
            for path in (f"/v1/{endpoint}/", f"/v1/{endpoint}"):
                self.router.add_api_route(path, handler, methods=["GET", "POST", "PUT", "DELETE"], response_model=None)

    def clear(self) -> None:
        self.urls: dict[str, dict[str, Any]] = {}
        self.blacklists: dict[str, dict[str, str]] = {}

    def seed(self, data: dict[str, Any]) -> None:
        unknown = set(data) - {"urls", "blacklists"}
        for given in data.get("urls", []):
            unknown |= set(given) - URL_MEMBERS
            unknown |= {name for payload in given.get("payloads", []) for name in set(payload) - PAYLOAD_MEMBERS}
            added = given.get("date_added", f"{self.clock.now():%Y-%m-%d %H:%M:%S} UTC")
            self.urls[given["url"]] = {"_id": str(FIRST_ID + len(self.urls)), **given, "date_added": added}
        if unknown:
            raise HTTPException(400, f"urlhaus: unknown seed members {sorted(unknown)}")
        self.blacklists |= data.get("blacklists", {})

    def snapshot(self) -> dict[str, Any]:
        return {"urls": list(self.urls), "blacklists": self.blacklists}

    async def url(self, request: Request) -> Response:
        form = await self._form(request, "url")
        if isinstance(form, Response):
            return form
        parts = urlsplit(form.get("url", ""))
        if not parts.scheme or not parts.hostname:
            return said("invalid_url")
        record = self.urls.get(form["url"])
        if record is None:
            return said("no_results")
        row = self._row(record)
        return JSONResponse(
            {
                "query_status": "ok",
                "id": row["id"],
                "urlhaus_reference": row["urlhaus_reference"],
                "url": row["url"],
                "url_status": row["url_status"],
                "host": parts.hostname,
                "date_added": row["date_added"],
                "last_online": record.get("last_online"),
                "threat": row["threat"],
                "blacklists": self._blacklists(parts.hostname),
                "reporter": row["reporter"],
                "larted": row["larted"],
                "takedown_time_seconds": row["takedown_time_seconds"],
                "tags": row["tags"],
                "payloads": [self._url_payload(record, p) for p in record.get("payloads", [])],
            }
        )

    async def host(self, request: Request) -> Response:
        form = await self._form(request, "host")
        if isinstance(form, Response):
            return form
        host = form.get("host", "").lower()
        if not _is_host(host):
            return said("invalid_host")
        rows = [self._row(r) for r in self.urls.values() if urlsplit(r["url"]).hostname == host]
        if not rows:
            return said("no_results")
        rows.sort(key=lambda row: row["date_added"], reverse=True)
        return JSONResponse(
            {
                "query_staus" if self.knobs["misspell_status"] else "query_status": "ok",
                "urlhaus_reference": f"{SITE}/host/{host}/",
                "host": host,
                "firstseen": rows[-1]["date_added"],
                "url_count": str(len(rows)),
                "blacklists": self._blacklists(host),
                "urls": rows,
            }
        )

    async def payload(self, request: Request) -> Response:
        form = await self._form(request, "payload")
        if isinstance(form, Response):
            return form
        field, value = next(iter(form.items()), ("md5_hash", ""))
        value = value.lower()
        if len(form) > 1 or not re.fullmatch(rf"[0-9a-f]{{{HASH_LENGTHS[field]}}}", value):
            return said("invalid_" + field.removesuffix("_hash"))
        key = field.removesuffix("_hash")
        spreading = [(r, p) for r in self.urls.values() for p in r.get("payloads", []) if p.get(key) == value]
        if not spreading:
            return said("no_results")
        seen = sorted(p.get("firstseen", r["date_added"].removesuffix(" UTC")) for r, p in spreading)
        file = spreading[0][1]
        return JSONResponse(
            {
                "query_status": "ok",
                "md5_hash": file.get("md5", hashlib.md5(file["sha256"].encode(), usedforsecurity=False).hexdigest()),
                "sha256_hash": file["sha256"],
                "file_type": file.get("file_type", "unknown"),
                "file_size": str(file.get("size", 241664)),
                "signature": file.get("signature"),
                "firstseen": seen[0],
                "lastseen": seen[-1],
                "url_count": str(len(spreading)),
                "urlhaus_download": f"https://urlhaus-api.abuse.ch/v1/download/{file['sha256']}/",
                "virustotal": None,
                "imphash": None,
                "ssdeep": None,
                "tlsh": None,
                "urls": [
                    {
                        "url_id": record["_id"],
                        "url": record["url"],
                        "url_status": record.get("url_status", "online"),
                        "urlhaus_reference": f"{SITE}/url/{record['_id']}/",
                        "filename": payload.get("filename"),
                        "firstseen": seen[0],
                        "lastseen": None,
                    }
                    for record, payload in spreading
                ],
            }
        )

    async def _form(self, request: Request, endpoint: str) -> dict[str, str] | Response:
        """The fields of a question that is allowed, or the answer that refuses it."""
        if refusal := self.refusal(request):
            return refusal
        form = {name: str(value) for name, value in (await request.form()).items()}
        if set(form) - FIELDS[endpoint] or request.query_params:
            return self.error(400, f"unknown fields {sorted(set(form) - FIELDS[endpoint])}")
        return form

    def _row(self, record: dict[str, Any]) -> dict[str, Any]:
        """One URL as a host's answer shows it."""
        status = record.get("url_status", "online")
        return {
            "id": record["_id"],
            "urlhaus_reference": f"{SITE}/url/{record['_id']}/",
            "url": record["url"],
            "url_status": status,
            "date_added": record["date_added"],
            "threat": record.get("threat", "malware_download"),
            "reporter": record.get("reporter", "analyst"),
            "larted": "true" if record.get("larted", True) else "false",
            "takedown_time_seconds": "130171" if status == "offline" else None,
            "tags": record.get("tags") or None,
        }

    @staticmethod
    def _url_payload(record: dict[str, Any], payload: dict[str, Any]) -> dict[str, Any]:
        return {
            "firstseen": payload.get("firstseen", record["date_added"][:10]),
            "filename": payload.get("filename"),
            "file_type": payload.get("file_type", "unknown"),
            "response_size": str(payload.get("size", 241664)),
            "response_md5": payload.get("md5"),
            "response_sha256": payload["sha256"],
            "urlhaus_download": f"https://urlhaus-api.abuse.ch/v1/download/{payload['sha256']}/",
            "signature": payload.get("signature"),
            "virustotal": None,
            "imphash": None,
            "ssdeep": None,
            "tlsh": None,
            "magika": None,
        }

    def _blacklists(self, host: str) -> dict[str, str]:
        return {**NOT_LISTED, **self.blacklists.get(host, {})}


def _is_host(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return HOST_NAME.fullmatch(text) is not None
