"""The last good copy of what is downloaded, in the archive: a provider that is down does not make us blind."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from airflow.sdk import ObjectStoragePath

from include.soar.vendor.errors import (
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    Unexpected,
    VendorError,
    WrongConnection,
)
from threat_response.runtime import settings

#: What describes one copy; ``uri`` is where it is.
Reference = dict[str, Any]
T = TypeVar("T")


class Copies:
    """
    The copies of one download, and when it was last asked for.

    :param folder: of the archive
    :param asked_for: what of the connection decides about the content, as JSON. Copies of something else do not count
    """

    def __init__(self, folder: ObjectStoragePath, asked_for: Mapping[str, Any]) -> None:
        self.folder = folder
        self.asked_for = dict(asked_for)
        self.references: list[Reference] = []
        self.asked_at: datetime | None = None
        self._state = folder / "current.json"
        if not self._state.exists():
            return
        try:
            state: dict[str, Any] = json.loads(self._state.read_bytes())
            if state["asked_for"] == self.asked_for:
                self.references, self.asked_at = list(state["references"]), datetime.fromisoformat(state["asked_at"])
        except (ValueError, KeyError, TypeError):  # a worker that was killed while it wrote: as good as no copy
            self.references, self.asked_at = [], None

    def refresh(
        self,
        download: Callable[[list[Reference]], list[Reference]],
        *,
        now: datetime,
        not_before: timedelta,
        on_outage: Callable[[VendorError], None],
    ) -> list[Reference]:
        """
        The newest good copies: asks when it was last asked, with or without success, longer ago than ``not_before``.

        :param download: makes new references from those that there are
        :param on_outage: is told why the former copies are gone on with
        :raises Unavailable, RateLimited, Unexpected, Rejected: nothing can be read, and there is no copy to go on with
        :raises VendorError: what else ``download`` raises
        """
        if self.asked_at is not None and now - self.asked_at < not_before:
            return self.references
        try:
            self.references = download(self.references)
        except (Unavailable, RateLimited, Unexpected, Rejected) as error:
            if not any(reference.get("uri") for reference in self.references):
                raise
            on_outage(error)
        self.asked_at = now
        state = {"references": self.references, "asked_for": self.asked_for, "asked_at": now.isoformat()}
        settings.archive_write(self._state, json.dumps(state).encode())
        return self.references

    def keep(self, name: str, content: bytes) -> str:
        """Write a copy, packed, and give its URI. The same content gives the same bytes."""
        return settings.archive_write(self.folder / f"{name}.gz", gzip.compress(content, mtime=0))


def load_copy(vendor: str, operation: str, reference: Reference, read: Callable[[bytes], T]) -> T:
    """
    A copy's content, as ``read`` gives it.

    :raises Unexpected: the copy is not there any more, or not whole
    """
    try:
        return read(gzip.decompress(ObjectStoragePath(reference["uri"]).read_bytes()))
    except (OSError, EOFError, zlib.error, ValueError, KeyError) as error:
        raise Unexpected(vendor, operation, f"the copy cannot be read: {type(error).__name__}") from None


def has_shrunk(before: int, after: int, *, largest_loss: float) -> bool:
    """Whether more than ``largest_loss`` percent are gone: more likely cut than cleaned."""
    return 100 * after < before * (100 - largest_loss)


def level_of(error: VendorError) -> int:
    """Of the log line: a provider that is down is usual; one that is not as it was needs a person."""
    return logging.ERROR if isinstance(error, (Unexpected, Rejected)) else logging.WARNING


def read_object(vendor: str, operation: str, location: str, *, largest_bytes: int) -> bytes:
    """
    The object's bytes.

    :param location: ``file:///lists/team.txt``, ``s3://conn_id@bucket/team.txt``
    :raises Unavailable: it is not there, or the store does not answer
    :raises Unauthorized: the store refuses; WrongConnection where this Airflow has no file system of that kind
    :raises Unexpected: it is longer than ``largest_bytes``; it is then not read to its end
    """
    try:
        with ObjectStoragePath(location).open("rb") as file:
            content: bytes = file.read(largest_bytes + 1)
    except FileNotFoundError:
        raise Unavailable(vendor, operation, "there is no such object") from None
    except PermissionError:
        raise Unauthorized(vendor, operation, "the store refuses to give the object") from None
    except ValueError:
        scheme = location.partition("://")[0]
        problem = f"no file system for {scheme}:// (is that store's Airflow provider installed?)"
        raise WrongConnection(vendor, operation, problem) from None
    except Exception as error:
        # Every store's client has errors of its own; their texts may hold anything.
        raise Unavailable(vendor, operation, f"the store gave {type(error).__name__}") from None
    if len(content) > largest_bytes:
        raise Unexpected(vendor, operation, f"object is longer than {largest_bytes:,} bytes")
    return content
