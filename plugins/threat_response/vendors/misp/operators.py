"""MISP in the workflow: one enrichment stage."""

from __future__ import annotations

from collections.abc import Sequence

from include.soar.model import Answer, Observable, Reputation
from threat_response.stages.enrich import EnrichOperator
from threat_response.vendors.misp import api
from threat_response.vendors.misp.hook import MispHook


class MispEnrichOperator(EnrichOperator):
    """
    Ask MISP about lists of values. See :class:`EnrichOperator`.

    It has no quotas: the instance is one's own. One whose role has a limit answers 429, which ends the round.
    """

    provider = api.VENDOR
    types = frozenset(api.TYPES)
    hook_class = MispHook

    def ask(self, hook: MispHook, observables: Sequence[Observable]) -> list[Reputation]:
        askable = [observable for observable in observables if api.is_askable(observable)]
        patterns = [observable for observable in observables if not api.is_askable(observable)]
        why = "not asked: MISP would read the value as a pattern"
        answers = self.ask_many(hook.search, askable, at_once=hook.values_a_call)
        return answers + [self._silence(observable, Answer.ERROR, why) for observable in patterns]


#: What the registry takes.
ENRICH = MispEnrichOperator
