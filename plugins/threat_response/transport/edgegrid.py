"""EdgeGrid, the signature of Akamai's own APIs (not of API Security), by Akamai's own signer.

https://techdocs.akamai.com/developer/docs/authenticate-with-edgegrid
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import requests
from airflow.sdk import Connection
from akamai.edgegrid import EdgeGridAuth

from threat_response.transport.hook import VendorHook
from threat_response.transport.http import hide_passing


class EdgeGrid(EdgeGridAuth):
    """Akamai's own signer, whose signature no error may show."""

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        signed: requests.PreparedRequest = super().__call__(r)
        hide_passing(signed.headers["Authorization"].rpartition("signature=")[2])
        return signed


class EdgeGridHook(VendorHook):
    """
    Base of the hooks that sign with EdgeGrid. Connection: client token as ``login``, client secret as ``password``,
    and in the extra ``access_token``, and ``max_body`` where the API client was given another than 131,072 bytes.
    """

    def secrets(self, connection: Connection) -> Iterable[str | None]:
        extra = connection.extra_dejson
        token = extra.get("access_token") if isinstance(extra, dict) else None
        return [connection.login, connection.password, token]

    def auth(self, connection: Connection) -> EdgeGrid:
        # At DEBUG Akamai's signer writes the signing key and the whole Authorization header into the log.
        logging.getLogger("akamai.edgegrid").setLevel(logging.INFO)
        return EdgeGrid(
            client_token=self.credential("login"),
            client_secret=self.credential("password"),
            access_token=self.settings.access_token,
            max_body=self.settings.max_body,
        )
