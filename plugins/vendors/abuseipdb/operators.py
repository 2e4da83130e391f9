"""AbuseIPDB in the workflow: one enrichment stage."""

from __future__ import annotations

from collections.abc import Sequence

from include.soar.model import Observable, ObservableType, Reputation
from vendors.abuseipdb import api
from vendors.abuseipdb.hook import AbuseIPDBHook
from vendors.contracts import EnrichOperator


class AbuseIPDBEnrichOperator(EnrichOperator):
    """Ask AbuseIPDB about each address. See :class:`EnrichOperator`."""

    provider = api.VENDOR
    types = frozenset({ObservableType.IPV4, ObservableType.IPV6})
    hook_class = AbuseIPDBHook

    def ask(self, hook: AbuseIPDBHook, observables: Sequence[Observable]) -> list[Reputation]:
        return self.ask_each(hook.check, observables)
