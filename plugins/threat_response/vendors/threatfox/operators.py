"""ThreatFox in the workflow: one enrichment stage."""

from __future__ import annotations

from collections.abc import Sequence

from include.soar.model import Answer, Observable, ObservableType, Reputation
from threat_response.stages.enrich import EnrichOperator
from threat_response.vendors.threatfox import api
from threat_response.vendors.threatfox.hook import ThreatFoxHook


class ThreatFoxEnrichOperator(EnrichOperator):
    """Ask ThreatFox about each value. See :class:`EnrichOperator`."""

    provider = api.VENDOR
    # An address is listed as ip:port, which the vendor knows for IPv4 only.
    types = frozenset({ObservableType.IPV4, ObservableType.DOMAIN, ObservableType.URL, ObservableType.FILE})
    hook_class = ThreatFoxHook
    quotas = api.QUOTAS

    def ask(self, hook: ThreatFoxHook, observables: Sequence[Observable]) -> list[Reputation]:
        answers = [
            self._silence(o, Answer.NOT_APPLICABLE, f"no {o.hash_algorithm} here")
            for o in observables
            if not api.knows(o)
        ]
        return answers + self.ask_each(hook.lookup, [o for o in observables if api.knows(o)])


#: What the registry takes.
ENRICH = ThreatFoxEnrichOperator
