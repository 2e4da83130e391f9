"""GreyNoise in the workflow: one enrichment stage."""

from __future__ import annotations

from collections.abc import Sequence

from include.soar.model import Observable, Reputation
from threat_response.stages.enrich import EnrichOperator
from threat_response.vendors.greynoise import api
from threat_response.vendors.greynoise.hook import GreyNoiseHook


class GreyNoiseEnrichOperator(EnrichOperator):
    """Ask GreyNoise about each IPv4 address. See :class:`EnrichOperator`."""

    provider = api.VENDOR
    types = api.TYPES
    hook_class = GreyNoiseHook
    quotas = api.FREE_QUOTAS

    def ask(self, hook: GreyNoiseHook, observables: Sequence[Observable]) -> list[Reputation]:
        if hook.quotas:
            # Each counts as a lookup, also in a bulk call: one by one, our count is the vendor's.
            return self.ask_each(hook.lookup, observables)
        return self.ask_many(hook.lookup_many, observables, at_once=api.MOST_AT_ONCE)


#: What the registry takes.
ENRICH = GreyNoiseEnrichOperator
