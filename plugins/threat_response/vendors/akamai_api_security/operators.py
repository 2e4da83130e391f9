"""Akamai API Security in the workflow: one source."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.soar.model import Finding, RejectedRecord, Role
from threat_response.stages.fetch import Fetch, Page

if TYPE_CHECKING:
    from threat_response.vendors.akamai_api_security.hook import AkamaiApiSecurityHook


class AkamaiApiSecurityFetchOperator(Fetch):
    """Read API Security's incidents and findings, or alerts. See :class:`Fetch`."""

    vendor = "akamai_api_security"
    grows = True

    def read(self, hook: AkamaiApiSecurityHook, start_at: datetime, end_at: datetime) -> list[Page]:
        pages = [*hook.records(start_at, end_at), *hook.grown(start_at, end_at)]
        return [Page(n, *page) for n, page in enumerate(pages, 1)]

    def parse(self, record: Any) -> Finding:
        from threat_response.vendors.akamai_api_security import api

        return api.parse(*record)

    def told(self, record: Any, finding: Finding) -> list[tuple[str, str]]:
        from threat_response.vendors.akamai_api_security import api

        return list(api.told(*record))

    def parse_all(self, pages: list[Page], archived: list[str]) -> tuple[list[Finding], list[RejectedRecord]]:
        from threat_response.vendors.akamai_api_security import api

        findings, rejected = super().parse_all(pages, archived)
        attacked = [f for f in findings if any(m.role is Role.ATTACKER for m in f.mentions)]
        if nobody := sum(map(api.nobody_read, attacked)):
            self.log.warning(
                "No attacker's address could be read in %d of %d records that name one (does this tenant hide them?)",
                nobody,
                len(attacked),
            )
        return findings, rejected

    def name_of(self, record: Any) -> str | None:
        from threat_response.vendors.akamai_api_security import api

        return api.name_of(*record)


#: What the registry takes.
FETCH = AkamaiApiSecurityFetchOperator
