"""The offline table of autonomous systems: where it lies."""

from __future__ import annotations

import hashlib

from threat_response.transport.hook import VendorHook
from threat_response.transport.objects import read_object
from threat_response.vendors.offline_asn import api
from threat_response.vendors.offline_asn.vendor import VENDOR


class OfflineAsnHook(VendorHook):
    """Read the table. Connection: extra ``table``, a path or an object-storage URL. Nobody is asked anything."""

    declared = VENDOR

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

    def ping(self) -> str:
        table, _ = self.load()
        return f"the table holds {len(table):,} ranges"
