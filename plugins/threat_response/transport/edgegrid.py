"""EdgeGrid, the signature of Akamai's own APIs (not of API Security), by Akamai's own signer.

https://techdocs.akamai.com/developer/docs/authenticate-with-edgegrid
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import requests
from airflow.sdk import Connection
from akamai.edgegrid import EdgeGridAuth

from include.soar.vendor.errors import Unauthorized
from threat_response.transport.hook import VendorHook
from threat_response.transport.http import hide


class EdgeGrid(EdgeGridAuth):
    """Akamai's own signer, with the signature hidden from whatever this process logs afterwards."""

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        signed: requests.PreparedRequest = super().__call__(r)
        hide(signed.headers["Authorization"].rpartition("signature=")[2])
        return signed


class EdgeGridHook(VendorHook):
    """
    Base of the hooks that sign with EdgeGrid. Connection: client token as ``login``, client secret as ``password``,
    and in the extra ``access_token``, and ``max_body`` where the API client was given another than 131,072 bytes.
    """

    def secrets(self, connection: Connection) -> Iterable[str | None]:
        return [connection.login, connection.password, connection.extra_dejson.get("access_token")]

    def auth(self, connection: Connection) -> EdgeGrid:
        # At DEBUG Akamai's signer writes the signing key and the whole Authorization header into the log.
        logging.getLogger("akamai.edgegrid").setLevel(logging.INFO)
        return EdgeGrid(
            client_token=self.required("login"),
            client_secret=self.required("password"),
            access_token=self.required("access_token"),
            max_body=self._max_body(),
        )

    def _max_body(self) -> int:
        size = str(self.extra("max_body", 131_072)).strip()
        if not size.isascii() or not size.isdigit() or int(size) < 1:
            raise Unauthorized(self.vendor, "connection", "extra max_body is not a number of bytes")
        return int(size)
