"""AlienVault OTX in the workflow: one enrichment stage."""

from __future__ import annotations

from collections.abc import Sequence

from include.soar.model import Answer, Observable, ObservableType, Reputation
from threat_response.stages.enrich import EnrichOperator
from threat_response.vendors.alienvault_otx import api
from threat_response.vendors.alienvault_otx.hook import AlienVaultOTXHook


class AlienVaultOTXEnrichOperator(EnrichOperator):
    """Ask AlienVault OTX about each value. See :class:`EnrichOperator`."""

    provider = api.VENDOR
    types = frozenset(
        {
            ObservableType.IPV4,
            ObservableType.IPV6,
            ObservableType.DOMAIN,
            ObservableType.URL,
            ObservableType.FILE,
        }
    )
    hook_class = AlienVaultOTXHook
    quotas = api.QUOTAS

    def ask(self, hook: AlienVaultOTXHook, observables: Sequence[Observable]) -> list[Reputation]:
        answers = [
            self._silence(o, Answer.NOT_APPLICABLE, f"no {o.hash_algorithm} here")
            for o in observables
            if not api.knows(o)
        ]
        return answers + self.ask_each(hook.lookup, [o for o in observables if api.knows(o)])


#: What the registry takes.
ENRICH = AlienVaultOTXEnrichOperator
