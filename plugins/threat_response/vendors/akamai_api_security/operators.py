"""Akamai API Security in the workflow: one source."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from include.soar.model import Finding
from threat_response.stages.fetch import FetchOperator, Page
from threat_response.vendors.akamai_api_security import api
from threat_response.vendors.akamai_api_security.hook import AkamaiApiSecurityHook


class AkamaiApiSecurityFetchOperator(FetchOperator):
    """Read API Security's incidents and findings, or alerts. See :class:`FetchOperator`."""

    source = api.VENDOR
    hook_class = AkamaiApiSecurityHook

    def read(self, hook: AkamaiApiSecurityHook, start_at: datetime, end_at: datetime) -> list[Page]:
        return [Page(n, *page) for n, page in enumerate(hook.records(start_at, end_at), 1)]

    def parse(self, record: Any) -> Finding:
        return api.parse(*record)

    def name_of(self, record: Any) -> str | None:
        return api.name_of(*record)


#: What the registry takes.
FETCH = AkamaiApiSecurityFetchOperator
