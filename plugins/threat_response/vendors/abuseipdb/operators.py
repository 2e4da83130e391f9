"""AbuseIPDB in the workflow: a task that downloads its blacklist, and an enrichment stage."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

from airflow.sdk import BaseOperator, Context

from include.soar.enrich.quota import Account, Quota, quotas_of
from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor.errors import VendorError
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.asking import Meter, metered
from threat_response.stages.enrich import EnrichOperator
from threat_response.vendors.abuseipdb import api
from threat_response.vendors.abuseipdb.hook import AbuseIPDBHook


class AbuseIPDBRefreshOperator(BaseOperator):
    """
    Bring our copy of the blacklist up to date. Gives a list of one reference, or of none.

    It is a saving and nothing else: without it, the addresses on it are asked about like any other. So whatever the
    vendor answers, the task succeeds.

    :param not_before: at least so long between two downloads: four a day, where a free key has five
    """

    template_fields: Sequence[str] = ("conn_id",)

    def __init__(
        self,
        *,
        conn_id: str = AbuseIPDBHook.default_conn_name,
        not_before: timedelta = timedelta(hours=6),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.not_before = not_before

    def execute(self, context: Context) -> list[dict[str, Any]]:
        settings.skip_if_absent(self.conn_id, "blacklist of AbuseIPDB")
        hook, rules = AbuseIPDBHook(self.conn_id), settings.policy().enrichment
        meter = Meter(
            settings.ledger(),
            Account(hook.vendor, hook.key_digest, "blacklist"),
            quotas_of(rules, hook.vendor, api.QUOTAS),
            rules,
            Run.of(context).is_backfill,
            now=settings.now,
            wait=time.sleep,
        )
        reference = hook.refresh_blacklist(meter, not_before=self.not_before)
        if reference is None:
            self.log.info("There is no blacklist: every address is asked about")
            return []
        self.log.info("Blacklist: %(rows)d addresses, generated at %(generated_at)s", reference)
        return [reference]


class AbuseIPDBEnrichOperator(EnrichOperator):
    """
    Ask AbuseIPDB about each address: its blacklist first, then whole /24 networks where the connection wants it, then
    one by one. See :class:`EnrichOperator`.

    :param lists: the refresh task's references (templated)
    """

    provider = api.VENDOR
    types = frozenset({ObservableType.IPV4, ObservableType.IPV6})
    hook_class = AbuseIPDBHook
    quotas: ClassVar[tuple[Quota, ...]] = api.QUOTAS

    template_fields: Sequence[str] = ("case", "lists", "conn_id")

    def __init__(self, *, lists: Any = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lists = lists

    def ask(self, hook: AbuseIPDBHook, observables: Sequence[Observable]) -> list[Reputation]:
        answers = self._on_the_blacklist(hook, observables)
        answers += self._by_block(hook, _without(observables, answers))
        return answers + self.ask_each(hook.check, _without(observables, answers))

    def _on_the_blacklist(self, hook: AbuseIPDBHook, observables: Sequence[Observable]) -> list[Reputation]:
        found: list[Reputation] = []
        references = self.lists or ()
        if self.planned is not None:
            references = hook.kept_blacklist()
        for reference in references:
            try:
                blacklist = hook.load_blacklist(reference)
            except VendorError as error:
                self.log.warning("Going on without the blacklist: %s", error)
                continue
            if not blacklist.is_fresh(settings.now()):
                self.log.warning("Going on without the blacklist of %s: it is too old", blacklist.generated_at)
                continue
            found += [answer for o in observables if (answer := blacklist.answer(o))]
            self.log.info("%d of %d addresses are on the blacklist", len(found), len(observables))
        return found

    def _by_block(self, hook: AbuseIPDBHook, observables: Sequence[Observable]) -> list[Reputation]:
        """Answers by ``check-block``. The first one that fails ends it: the rest is asked about one by one."""
        found: list[Reputation] = []
        if hook.check_block_from < 2:
            return found
        gate, meter = settings.gate(), self.meter(hook, "check-block")
        for block, members in api.crowded_blocks(observables, at_least=hook.check_block_from).items():
            if gate.private(block):  # a part of it is ours, and its name is not sent out
                continue
            if self.planned is not None:
                self.planned[meter.account.name] += 1
                found += [self._silence(o, Answer.NOT_CHECKED, "only planned") for o in members]
                continue
            try:
                with metered(meter):
                    found += hook.check_block(block, members)
            except VendorError as error:
                self.log.warning("No answer about whole networks: %s", error)
                break
        return found


def _without(observables: Sequence[Observable], answers: Sequence[Reputation]) -> list[Observable]:
    answered = {answer.observable for answer in answers}
    return [observable for observable in observables if observable not in answered]
