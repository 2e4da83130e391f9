"""Block lists: where they lie, and the last good copy of each."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Connection, ObjectStoragePath
from requests.auth import AuthBase, HTTPBasicAuth

from include.soar.errors import RateLimited, Unauthorized, Unavailable, Unexpected, one_line
from include.soar.model import digest
from vendors import house
from vendors.base import VendorHook
from vendors.list_feed import api
from vendors.list_feed.api import Source


class ListFeedHook(VendorHook):
    """
    Read block lists over HTTP or from object storage, and keep the last good copy in the archive.

    Connection: ``host`` (for lists over HTTP), extra ``lists`` (see :func:`api.parse_sources`), optionally
    ``login`` and ``password`` (Basic), or ``password`` alone with extra ``key_header`` naming its header.
    """

    vendor = api.VENDOR
    conn_type = "list_feed"
    default_conn_name = "list_feed_default"
    hook_name = "Block list feed"

    def auth(self, connection: Connection) -> AuthBase | None:
        if connection.login:
            return HTTPBasicAuth(connection.login, connection.password or "")
        return None

    def headers(self, connection: Connection) -> dict[str, str]:
        name = self.extra("key_header")
        return {name: self.required("password")} if name else {}

    def sources(self) -> list[Source]:
        """
        The lists that the connection names.

        :raises Unauthorized: the connection's ``lists`` is wrong; names the line
        """
        try:
            return api.parse_sources(self.required("lists"))
        except ValueError as error:
            raise Unauthorized(self.vendor, "connection", str(error)) from None

    def refresh(self, source: Source, *, now: datetime, not_before: timedelta) -> dict[str, Any]:
        """
        The newest good copy of a list: asks when the copy we have is older than ``not_before``.

        :return: ``{name, format, score, location, uri, entries, digest, etag, last_modified, fetched_at}``
        :raises Unavailable, RateLimited, Unexpected: the list cannot be read and there is no copy to go on with
        """
        place = house.archive() / "lists" / source.name
        current = self._current(place, source)
        if current and now - datetime.fromisoformat(current["fetched_at"]) < not_before:
            return current
        try:
            content, etag, last_modified = self._download(source, current)
            if content is None and current:
                current = {**current, "fetched_at": now.isoformat()}
            else:
                current = self._keep(place, source, content or b"", etag, last_modified, current, now)
        except (Unavailable, RateLimited, Unexpected) as error:
            if not current:
                raise
            self.log.warning("List %s: %s. Going on with the copy of %s", source.name, error, current["fetched_at"])
            return current
        house.archive_write(place / "current.json", json.dumps(current).encode())
        return current

    def load(self, reference: dict[str, Any]) -> list[str]:
        """The entries of a copy."""
        text = gzip.decompress(ObjectStoragePath(reference["uri"]).read_bytes()).decode()
        return text.splitlines()

    def ping(self) -> str:
        found = []
        for source in self.sources():
            content, _, _ = self._download(source, None)
            entries, _ = api.parse_list(source, content or b"")
            found.append(f"{source.name} {len(entries)}")
        return f"{len(found)} lists can be read, entries: {', '.join(found)}"

    @staticmethod
    def _current(place: ObjectStoragePath, source: Source) -> dict[str, Any] | None:
        path = place / "current.json"
        if not path.exists():
            return None
        try:
            current: dict[str, Any] = json.loads(path.read_bytes())
        except ValueError:  # a worker that was killed while it wrote: as good as no copy
            return None
        # A list that is now read from elsewhere or counts differently starts anew.
        return current if all(current.get(k) == v for k, v in asdict(source).items()) else None

    def _download(self, source: Source, current: dict[str, Any] | None) -> tuple[bytes | None, str | None, str | None]:
        """Content (None: unchanged), ETag, Last-Modified."""
        if not source.is_http:
            try:
                return ObjectStoragePath(source.location).read_bytes(), None, None
            except FileNotFoundError:
                raise Unavailable(self.vendor, f"list {source.name}", "there is no such object") from None
            except OSError as error:
                raise Unavailable(self.vendor, f"list {source.name}", type(error).__name__) from None
        known = current or {}
        request = api.list_request(source, etag=known.get("etag"), last_modified=known.get("last_modified"))
        response = self.exchange(request)
        if response.status == 304 and current:
            return None, None, None
        response = self.accept(request, response)
        return response.body, response.headers.get("etag"), response.headers.get("last-modified")

    def _keep(
        self,
        place: ObjectStoragePath,
        source: Source,
        content: bytes,
        etag: str | None,
        last_modified: str | None,
        before: dict[str, Any] | None,
        now: datetime,
    ) -> dict[str, Any]:
        entries, unreadable = api.parse_list(source, content)
        if unreadable:
            self.log.warning("List %s: %d lines could not be read", source.name, unreadable)
        if before and len(entries) < before["entries"] * api.SMALLEST_SHARE:
            problem = f"shrank from {before['entries']} to {len(entries)} entries: more likely cut than cleaned"
            raise Unexpected(self.vendor, f"list {source.name}", problem)
        name = digest(entries)
        uri = house.archive_write(place / f"{name[:16]}.txt.gz", gzip.compress("\n".join(entries).encode(), mtime=0))
        self.log.info("List %s: %d entries, copy %s", source.name, len(entries), one_line(uri))
        return {
            **asdict(source),
            "uri": uri,
            "entries": len(entries),
            "digest": name,
            "etag": etag,
            "last_modified": last_modified,
            "fetched_at": now.isoformat(),
        }

    def secrets(self, connection: Connection) -> Iterable[str | None]:
        basic = base64.b64encode(f"{connection.login}:{connection.password}".encode()).decode()
        return [connection.password, basic if connection.login else None]
