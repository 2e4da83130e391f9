"""The offline table of autonomous systems: where its file is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from include.soar.model import Observable, ObservableType, Reputation
from threat_response.transport.asking import Provider
from threat_response.transport.copies import read_object
from threat_response.transport.hook import VendorHook
from threat_response.vendors.offline_asn import api
from threat_response.vendors.offline_asn.vendor import VENDOR


class OfflineAsnHook(Provider, VendorHook):
    """Read the table. Connection: extra ``table``, a path or an object-storage URL. Nobody is asked anything."""

    declared = VENDOR
    types = frozenset({ObservableType.IPV4, ObservableType.IPV6})

    def load(self) -> tuple[api.OriginTable, str]:
        """
        The table, and the SHA-256 of its file.

        :raises Unavailable, Unauthorized: the file cannot be read
        :raises Unexpected: it is no such table
        """
        location = self.settings.table
        if location.startswith("/"):
            location = f"file://{location}"
        content = read_object(self.vendor, "table", location, largest_bytes=api.LARGEST_FILE)
        return api.parse_table(content), hashlib.sha256(content).hexdigest()

    def answers(
        self, observables: Sequence[Observable], copies: Sequence[Mapping[str, Any]], *, now: datetime
    ) -> list[Reputation]:
        table, digest = self.load()
        return [api.context(o, table, body_digest=digest, known_at=now) for o in observables]

    def ping(self) -> str:
        table, _ = self.load()
        return f"the table holds {len(table):,} ranges"
