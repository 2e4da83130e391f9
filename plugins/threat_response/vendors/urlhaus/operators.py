"""URLhaus in the workflow: one enrichment stage."""

from __future__ import annotations

from collections.abc import Sequence

from include.soar.model import Answer, Observable, ObservableType, Reputation
from threat_response.stages.enrich import EnrichOperator
from threat_response.vendors.urlhaus import api
from threat_response.vendors.urlhaus.hook import URLhausHook


class URLhausEnrichOperator(EnrichOperator):
    """Ask URLhaus about each host, URL and file. See :class:`EnrichOperator`."""

    provider = api.VENDOR
    # The vendor documents hosts as IPv4 addresses and names.
    types = frozenset({ObservableType.IPV4, ObservableType.DOMAIN, ObservableType.URL, ObservableType.FILE})
    hook_class = URLhausHook
    quotas = api.QUOTAS

    def ask(self, hook: URLhausHook, observables: Sequence[Observable]) -> list[Reputation]:
        answers = [
            self._silence(o, Answer.NOT_APPLICABLE, f"no {o.hash_algorithm} here")
            for o in observables
            if not api.knows(o)
        ]
        return answers + self.ask_each(hook.lookup, [o for o in observables if api.knows(o)])


#: What the registry takes.
ENRICH = URLhausEnrichOperator
