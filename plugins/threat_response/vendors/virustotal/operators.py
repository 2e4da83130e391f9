"""VirusTotal in the workflow: one enrichment stage."""

from __future__ import annotations

from collections.abc import Sequence

from include.soar.model import Answer, Observable, Reputation
from threat_response.stages.enrich import EnrichOperator
from threat_response.vendors.virustotal import api
from threat_response.vendors.virustotal.hook import VirusTotalHook


class VirusTotalEnrichOperator(EnrichOperator):
    """Ask VirusTotal about each address, domain, URL and file. See :class:`EnrichOperator`."""

    provider = api.VENDOR
    types = api.TYPES
    hook_class = VirusTotalHook
    quotas = api.PUBLIC_QUOTAS

    def ask(self, hook: VirusTotalHook, observables: Sequence[Observable]) -> list[Reputation]:
        answers = [
            self._silence(o, Answer.NOT_APPLICABLE, "files are known by MD5, SHA-1 and SHA-256 only")
            for o in observables
            if not api.is_known_type(o)
        ]
        return answers + self.ask_each(hook.lookup, [o for o in observables if api.is_known_type(o)])


#: What the registry takes.
ENRICH = VirusTotalEnrichOperator
