"""Akamai SIA in the workflow: one source."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.soar.model import Finding
from threat_response.stages.fetch import Fetch, Page

if TYPE_CHECKING:
    from threat_response.vendors.akamai_sia.hook import AkamaiSiaHook


class AkamaiSiaFetchOperator(Fetch):
    """Read SIA's threat events. See :class:`Fetch`."""

    vendor = "akamai_sia"
    #: "Query no later than three minutes ago to avoid gaps": the vendor's command line client.
    settled_after = timedelta(minutes=3)

    def read(self, hook: AkamaiSiaHook, start_at: datetime, end_at: datetime) -> list[Page]:
        return [Page(n, *page) for n, page in enumerate(hook.threat_events(start_at, end_at), 1)]

    def parse(self, record: Any) -> Finding:
        from threat_response.vendors.akamai_sia import api

        return api.parse_row(record)

    def told(self, record: Any, finding: Finding) -> list[tuple[str, str]]:
        from threat_response.vendors.akamai_sia import api

        return list(api.told(record))

    def name_of(self, record: Any) -> str | None:
        from threat_response.vendors.akamai_sia import api

        return api.name_of(record)


#: What the registry takes.
FETCH = AkamaiSiaFetchOperator
