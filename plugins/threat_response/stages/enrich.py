"""TODO: what enrich is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.enrich.quota import Account, Quota, quotas_of
from include.soar.enrich.sift import Sifted, sift
from include.soar.ledger import Ledger
from include.soar.model import (
    Answer,
    CaseBatch,
    Observable,
    ObservableType,
    Reputation,
    ReputationBatch,
    Severity,
    Window,
)
from include.soar.vendor.errors import (
    RateLimited,
    Unauthorized,
    Unavailable,
    VendorError,
    one_line,
)
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.asking import Meter, NoAnswer, Round, clock_words
from threat_response.transport.hook import VendorHook


class EnrichOperator(BaseOperator):
    """
    Ask one provider about the batch's observables. Contract of stage 3.

    Takes a ``CaseBatch``, gives a ``ReputationBatch`` with one answer per observable. Never asks about private, own or
    partner values, nor about what is too restricted for the provider, nor twice about the same; stored answers come
    first, and then the questions whose answers are worth most. A spent quota or a broken provider gives
    ``not_checked`` or ``error``, never "clean", and stops nothing.

    With the run's parameter ``answers`` = ``frozen`` nobody is asked: the answers are those that were known when the
    window was first decided.

    :param case: the extract stage's batch (templated)
    :param local: what the local lists said, by provider: what they name is asked about first (templated)
    :param conn_id: the provider's connection. Absent: the task is skipped.
    """

    provider: ClassVar[str]
    types: ClassVar[frozenset[ObservableType]]
    hook_class: ClassVar[type[VendorHook]]
    #: False for lists that lie here: asking costs nothing and tells nobody anything.
    is_remote: ClassVar[bool] = True
    #: False for one that only adds context: it lists nothing, and the policy has no rule for it.
    has_opinion: ClassVar[bool] = True
    #: How often a key may ask, where neither its connection nor the policy says so. Several with one name all hold.
    quotas: ClassVar[tuple[Quota, ...]] = ()

    template_fields: Sequence[str] = ("case", "local", "conn_id")

    def __init__(self, *, case: Any, local: Any = None, conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case
        self.local = local
        self.conn_id = conn_id or self.hook_class.default_conn_name

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A vendor with a field of its own would otherwise have to know ours.
        cls.template_fields = tuple(dict.fromkeys([*EnrichOperator.template_fields, *cls.template_fields]))

    def ask(self, hook: Any, observables: Sequence[Observable]) -> list[Reputation]:
        """
        Answers for all of them, in any order, by :meth:`ask_each` or :meth:`ask_many`, which keep to the quotas. By
        default each by the hook's ``lookup``. What it raises is the answer to all of them; an observable without an
        answer is reported as an error.
        """
        return self.ask_each(hook.lookup, observables)

    def ask_each(
        self, one: Callable[[Observable], Reputation], observables: Sequence[Observable], *, kind: str | None = None
    ) -> list[Reputation]:
        """
        One call per observable, several at the same time. See ``asking.Round`` for what a failure costs.

        :param one: a method of the hook: each thread calls it on a hook of its own
        :param kind: the quota that it counts against, by default the first one's
        """
        return self._round(one, lambda call, some: [call(o) for o in some], observables, kind, 1)

    def ask_many(
        self,
        many: Callable[[Sequence[Observable]], list[Reputation]],
        observables: Sequence[Observable],
        *,
        at_once: int,
        kind: str | None = None,
    ) -> list[Reputation]:
        """As :meth:`ask_each`, with a call that takes up to ``at_once`` observables."""
        return self._round(many, lambda call, some: call(some), observables, kind, at_once)

    def meter(self, hook: VendorHook, kind: str | None = None) -> Meter:
        """The quotas and the breaker of one kind of call, for a vendor that makes its calls itself."""
        declared = self.quotas if hook.quotas is None else hook.quotas
        rules = settings.policy().enrichment
        quotas = quotas_of(rules, self.provider, declared)
        name = kind if kind is not None else next((quota.name for quota in quotas), "")
        account = Account(self.provider, hook.key_digest, name)
        ledger = self._ledger or settings.ledger()
        return Meter(ledger, account, quotas, rules, self._backfill, now=settings.now, wait=self.wait)

    #: Waits for a quota that renews soon.
    wait: Callable[[float], None] = staticmethod(time.sleep)
    #: A plan's count of calls by kind. None is then made, and nobody answers.
    planned: Counter[str] | None = None
    # What a round needs to know of the run.
    _ledger: Ledger | None = None
    _backfill = False
    _asked: set[Observable] = set()

    def questions(self, case: CaseBatch, *, now: datetime, minimum_severity: Severity | None) -> Sifted:
        """What it is to be asked about a case, before the stored answers are looked up."""
        policy = settings.policy()
        return sift(
            case,
            policy,
            settings.gate(now),
            provider=self.provider,
            types=self.types,
            is_remote=self.is_remote,
            minimum_severity=minimum_severity,
            listed=self._locally_listed(),
        )

    def stored(
        self, ledger: Ledger, window: Window, observables: Sequence[Observable], *, frozen: bool, now: datetime
    ) -> tuple[dict[str, Reputation], datetime]:
        """The answers that need no call, by observable key, and the time at which they were known."""
        if frozen:
            at = ledger.windows.first_decided_at(window) or window.end_at
            # A list's answers are not asked for again and again, so they do not end.
            return ledger.answers.known(self.provider, observables, now=at, stale=not self.is_remote), at
        return ledger.answers.known(self.provider, observables, now=now) if self.is_remote else {}, now

    def execute(self, context: Context) -> dict[str, Any]:
        settings.skip_if_absent(self.conn_id, f"enrichment by {self.provider}")
        if self.case is None:
            # The run is red already, by the stage that gave nothing.
            raise AirflowSkipException(f"{self.provider} is not asked: there is no case")
        case = CaseBatch.model_validate(self.case)
        ledger, now = settings.ledger(), settings.now()
        self._ledger, self._backfill = ledger, Run.of(context).is_backfill
        sifted = self.questions(case, now=now, minimum_severity=Run.of(context).minimum_severity)
        frozen = Run.of(context).answers_are_frozen and self.has_opinion
        stored, at = self.stored(ledger, case.window, sifted.to_ask, frozen=frozen, now=now)
        missing = [o for o in sifted.to_ask if o.key not in stored]
        said: dict[Observable, Reputation] = {}
        self._asked = set()
        if frozen:
            words = f"frozen: nothing was known at {clock_words(at)}"
            said = {o: self._silence(o, Answer.NOT_CHECKED, words) for o in missing}
        elif missing:
            try:
                said = {r.observable: r for r in self.ask(self.hook_class(self.conn_id), missing)}
            except VendorError as error:
                said = {r.observable: r for r in self._silences(missing, error)}
        fresh = [said.get(o) or self._silence(o, Answer.ERROR, "passed over by the provider") for o in missing]
        if not frozen:
            # What came in rounds was kept as it came; this is what the vendor knew without asking.
            self._keep(ledger, [r for r in fresh if r.observable not in self._asked])
        left_out = [self._silence(one.observable, one.answer, one.why) for one in sifted.left_out]
        answers = [*left_out, *stored.values(), *fresh]
        for reputation in answers:
            if reputation.answer is not Answer.NOT_APPLICABLE:
                self.log.info(
                    "%s %s: %s%s; %s%s",
                    self.provider,
                    one_line(reputation.observable.key),
                    reputation.answer.value,
                    "" if reputation.score is None else f" score {reputation.score}",
                    one_line(reputation.summary),
                    " (stored answer)" if reputation.observable.key in stored else "",
                )
        self.log.info(
            "%s: %d answers by it, %d stored ones, %d without an answer, %d not for this provider",
            self.provider,
            sum(r.score is not None for r in fresh),
            len(stored),
            sum(r.score is None for r in fresh),
            len(left_out),
        )
        ordered = sorted(answers, key=lambda r: r.observable.key)
        return ReputationBatch(provider=self.provider, reputations=tuple(ordered)).to_json()

    def _round(
        self,
        call: Callable[..., Any],
        on: Callable[[Callable[..., Any], Sequence[Observable]], list[Reputation]],
        observables: Sequence[Observable],
        kind: str | None,
        at_once: int,
    ) -> list[Reputation]:
        hook = getattr(call, "__self__", None)
        if not isinstance(hook, VendorHook):
            raise TypeError(f"{call!r} is not a method of a hook, so no thread could have its own")
        meter = self.meter(hook, kind)
        if self.planned is not None:
            distinct = dict.fromkeys(observables)
            self.planned[meter.account.name] += -(-len(distinct) // at_once)
            return [self._silence(o, Answer.NOT_CHECKED, "only planned") for o in distinct]
        ledger, name = meter.ledger, call.__name__

        def known(some: Sequence[Observable]) -> dict[str, Reputation]:
            return ledger.answers.known(self.provider, some, now=settings.now()) if self.is_remote else {}

        asking = Round(
            call=lambda hook, some: on(getattr(hook, name), some),
            hook=hook,
            meter=meter,
            known=known,
            keep=lambda some: self._keep(ledger, some),
        )
        results = asking.run(observables, at_once=at_once)
        self._asked |= results.keys()
        silent = [r for r in results.values() if isinstance(r, NoAnswer)]
        if asking.stopped:
            # Loudly, and once.
            self.log.warning("%s is silent for %d observables: %s", self.provider, len(silent), asking.stopped.why)
        self.log.info("%s: %d calls of %s", self.provider, asking.calls, name)
        return [
            self._silence(o, r.answer, r.why, retry_at=r.retry_at) if isinstance(r, NoAnswer) else r
            for o, r in results.items()
        ]

    def _locally_listed(self) -> set[Observable]:
        said = [ReputationBatch.model_validate(batch) for batch in (self.local or {}).values() if batch is not None]
        return {r.observable for batch in said for r in batch.reputations if r.answer is Answer.LISTED}

    def _keep(self, ledger: Ledger, answers: Sequence[Reputation]) -> None:
        """Store the real answers. A list's only where they changed: it is read again in every run."""
        real = [r for r in answers if r.score is not None]
        if not real:
            return
        if not self.is_remote:
            before = ledger.answers.known(self.provider, [r.observable for r in real], now=settings.now(), stale=True)
            real = [r for r in real if (old := before.get(r.observable.key)) is None or _differ(old, r)]
        hours = settings.policy().reputation_hours
        life = {Answer.LISTED: timedelta(hours=hours.listed), Answer.NOT_LISTED: timedelta(hours=hours.not_listed)}
        ledger.answers.store((r, life[r.answer]) for r in real)

    def _silences(self, observables: Sequence[Observable], error: VendorError) -> list[Reputation]:
        """The provider went silent: say so for each, and say loudly once."""
        later = isinstance(error, (RateLimited, Unavailable, Unauthorized))
        seconds = min(error.retry_after or 0, 86_400.0) if isinstance(error, RateLimited) else 0
        retry_at = settings.now() + timedelta(seconds=seconds) if later else None
        self.log.warning("%s is silent for %d observables: %s", self.provider, len(observables), error)
        answer = Answer.NOT_CHECKED if isinstance(error, RateLimited) else Answer.ERROR
        return [self._silence(o, answer, str(error), retry_at=retry_at) for o in observables]

    def _silence(
        self, observable: Observable, answer: Answer, summary: str, *, retry_at: datetime | None = None
    ) -> Reputation:
        return Reputation(
            observable=observable,
            provider=self.provider,
            answer=answer,
            summary=one_line(summary),
            known_at=settings.now(),
            retry_at=retry_at,
        )


def _differ(old: Reputation, new: Reputation) -> bool:
    """Whether a list says something else now, and not only at another time."""
    return old.model_copy(update={"known_at": new.known_at, "body_digest": new.body_digest}) != new
