"""Akamai API Security in the workflow: one source."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.soar.model import Finding
from threat_response.stages.fetch import Fetch, Page

if TYPE_CHECKING:
    from threat_response.vendors.akamai_api_security.hook import AkamaiApiSecurityHook


class AkamaiApiSecurityFetchOperator(Fetch):
    """Read API Security's incidents and findings, or alerts. See :class:`Fetch`."""

    vendor = "akamai_api_security"

    def read(self, hook: AkamaiApiSecurityHook, start_at: datetime, end_at: datetime) -> list[Page]:
        return [Page(n, *page) for n, page in enumerate(hook.records(start_at, end_at), 1)]

    def parse(self, record: Any) -> Finding:
        from threat_response.vendors.akamai_api_security import api

        return api.parse(*record)

    def name_of(self, record: Any) -> str | None:
        from threat_response.vendors.akamai_api_security import api

        return api.name_of(*record)


#: What the registry takes.
FETCH = AkamaiApiSecurityFetchOperator
