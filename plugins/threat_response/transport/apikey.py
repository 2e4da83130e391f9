"""What the hooks share whose vendor takes one key in a header, and answers 403 to a key that it does not know."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from airflow.sdk import Connection

from include.soar.enrich.quota import Quota
from include.soar.vendor.errors import Unauthorized
from include.soar.vendor.wire import Request, Response
from threat_response.transport.asking import Provider
from threat_response.transport.hook import VendorHook


class ApiKeyHook(VendorHook):
    """
    A hook whose connection holds the key as ``password``.

    :cvar key_header: the header that carries it
    """

    key_header: ClassVar[str]

    def headers(self, connection: Connection) -> dict[str, str]:
        return {self.key_header: self.credential("password"), "Accept": "application/json"}

    def accept(self, request: Request, response: Response) -> Response:
        try:
            return super().accept(request, response)
        except Unauthorized as error:
            if response.status != 403 or "json" not in response.headers.get("content-type", ""):
                raise  # a page in HTML is some gateway's, and says nothing about the key
            # In general 403 is a missing grant, and the person would look for that.
            reason = f"{self.hook_name} does not know the key (HTTP 403: {error.reason})"
            raise Unauthorized(self.vendor, request.operation, reason, request_id=error.request_id) from None


class AbuseChHook(Provider, ApiKeyHook):
    """A provider of abuse.ch, which takes the key and limits its use alike at each of its products."""

    key_header = "Auth-Key"
    # Third party or inferred: the vendor's pages do not settle these.
    #: "Fair use": no number is published. The terms of use allow volumes that a non-commercial user would need.
    #: The shorter one also says how long to leave the vendor alone after a 429 that names no time.
    quotas = (Quota("lookup", 120, timedelta(minutes=1)), Quota("lookup", 1000, timedelta(days=1)))
