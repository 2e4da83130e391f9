"""The offline table of autonomous systems in the workflow: context for the incident."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from include.soar.model import Observable, ObservableType, Reputation
from threat_response.runtime import settings
from threat_response.stages.enrich import EnrichOperator
from threat_response.vendors.offline_asn import api
from threat_response.vendors.offline_asn.hook import OfflineAsnHook


class OfflineAsnEnrichOperator(EnrichOperator):
    """Tag each address with its autonomous system and country. See :class:`EnrichOperator`."""

    provider = api.VENDOR
    types = frozenset({ObservableType.IPV4, ObservableType.IPV6})
    hook_class = OfflineAsnHook
    is_remote = False
    #: It never says listed or not listed, so the policy has no rule for it.
    has_opinion: ClassVar[bool] = False

    def ask(self, hook: OfflineAsnHook, observables: Sequence[Observable]) -> list[Reputation]:
        table, digest = hook.load()
        now = settings.now()
        return [api.context(o, table, body_digest=digest, known_at=now) for o in observables]


#: What the registry takes.
ENRICH = OfflineAsnEnrichOperator
