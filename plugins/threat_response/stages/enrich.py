"""Stage 3: what one reputation source says about each value, and the refresh of the lists that it is read from."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context, TriggerRule

from include.soar.enrich.quota import Account, quotas_of
from include.soar.model import Answer, CaseBatch, Observable, Reputation, ReputationBatch, Severity, Window
from include.soar.vendor.errors import RateLimited, Unauthorized, Unavailable, Unexpected, VendorError, one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.base import StageOperator
from threat_response.transport.asking import Meter, NoAnswer, Question, Round, clock_words, metered
from threat_response.transport.form import vendor_of

if TYPE_CHECKING:
    from include.soar.enrich.sift import Sifted
    from include.soar.ledger import Ledger

#: An answer, or why there is none, by value.
Results = dict[Observable, Reputation | NoAnswer]


def meter_of(
    hook: Any,
    kind: str | None = None,
    *,
    ledger: Ledger,
    backfill: bool,
    wait: Callable[[float], None] = time.sleep,
    keeps: bool = False,
) -> Meter:
    """
    The quotas and the breaker of one kind of call, for the key of the hook's connection.

    :param kind: by default the first quota's
    :param wait: waits for a quota that renews soon
    :param keeps: leave the share of each quota that is kept for what can become a block
    """
    rules = settings.policy().enrichment
    quotas = quotas_of(rules, hook.vendor, hook.quotas or ())
    name = kind if kind is not None else next((quota.name for quota in quotas), "")
    account = Account(hook.vendor, hook.key_digest, name)
    kept = rules.acting_share if keeps else 0.0
    return Meter(ledger, account, quotas, rules, backfill, now=settings.now, wait=wait, kept_share=kept)


class Refresh(StageOperator):
    """
    Bring our copies of one provider's lists up to date. Gives a reference for each list.

    :param not_before: a list that was asked for more recently is used as it is; default the provider's
    """

    def __init__(self, *, not_before: timedelta | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.not_before = not_before

    def execute(self, context: Context) -> list[dict[str, Any]]:
        settings.skip_if_absent(self.conn_id, f"refresh of {self.vendor}")
        hook = self.hook()
        references: list[dict[str, Any]] = hook.refresh_all(
            now=settings.now(),
            not_before=hook.refresh_every if self.not_before is None else self.not_before,
            meter=partial(meter_of, hook, ledger=settings.ledger(), backfill=Run.of(context).is_backfill),
        )
        return references


class Enrich(StageOperator):
    """
    Ask one provider about the case's values. Takes a ``CaseBatch``, gives a ``ReputationBatch`` with an answer
    for each.

    Never asks about private, own or partner values, nor about what is too restricted for the provider, nor twice about
    the same; stored answers come first, and then the questions whose answers are worth most. A spent quota or a broken
    provider gives ``not_checked`` or ``error``, never "clean", and stops nothing.

    With the run's parameter ``answers`` = ``frozen`` nobody is asked: the answers are those that were known when the
    window was first decided.

    :param case: the extract stage's batch (templated)
    :param local: what the local lists said, by provider: what they name is asked about first (templated)
    :param lists: the references of the provider's refresh task (templated)
    """

    template_fields: Sequence[str] = ("case", "local", "lists", "conn_id")
    #: Waits for a quota that renews soon.
    wait = staticmethod(time.sleep)

    def __init__(self, *, case: Any, local: Any = None, lists: Any = None, **kwargs: Any) -> None:
        if local is not None:
            # Whoever is asked after the local lists is asked even where one of them failed, or a refresh did.
            kwargs.setdefault("trigger_rule", TriggerRule.ALL_DONE)
        super().__init__(**kwargs)
        self.case = case
        self.local = local
        self.lists = lists

    @property
    def is_remote(self) -> bool:
        """Whether asking uses up a quota and shows the value to a third party."""
        return vendor_of(self.vendor).is_remote

    @property
    def has_opinion(self) -> bool:
        """Whether it says listed or not listed, or only adds context."""
        return vendor_of(self.vendor).has_opinion

    @property
    def needs_lists(self) -> bool:
        """Whether it answers from the lists that its refresh task brings, and from nothing else."""
        return vendor_of(self.vendor).refreshes and not self.is_remote

    def execute(self, context: Context) -> dict[str, Any]:
        settings.skip_if_absent(self.conn_id, f"enrichment by {self.vendor}")
        if self.case is None:
            # The run is red already, by the stage that gave nothing.
            settings.skip(f"{self.vendor} is not asked: there is no case")
        case, run = CaseBatch.model_validate(self.case), Run.of(context)
        ledger, now = settings.ledger(), settings.now()
        sifted = self.sift(case, now=now, minimum_severity=run.minimum_severity)
        frozen = run.answers_are_frozen and self.has_opinion
        stored, at = self.stored(ledger, case.window, sifted.to_ask, frozen=frozen, now=now)
        missing = [o for o in sifted.to_ask if o.key not in stored]
        if frozen:
            unknown = NoAnswer(Answer.NOT_CHECKED, f"frozen: nothing was known at {clock_words(at)}")
            fresh: Results = dict.fromkeys(missing, unknown)
        else:
            fresh = self._ask(missing, sifted.can_act, ledger, backfill=run.is_backfill)
        left_out = {one.observable: NoAnswer(one.answer, one.why) for one in sifted.left_out}
        answers = [*stored.values(), *(self._reputation(o, said) for o, said in (left_out | fresh).items())]
        self._tell(answers, stored)
        ordered = sorted(answers, key=lambda r: r.observable.key)
        return ReputationBatch(provider=self.vendor, reputations=tuple(ordered)).to_json()

    # --- what a forecast needs as well --------------------------------------------------------------------

    def sift(self, case: CaseBatch, *, now: datetime, minimum_severity: Severity | None) -> Sifted:
        """What the provider is to be asked about a case, before the stored answers are looked up."""
        from include.soar.enrich.sift import Source, sift

        return sift(
            case,
            settings.policy(),
            settings.gate(now),
            Source(self.vendor, self.hook_class.types, self.is_remote),
            now=now,
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
            return ledger.answers.known(self.vendor, observables, now=at, stale=not self.is_remote), at
        return ledger.answers.known(self.vendor, observables, now=now) if self.is_remote else {}, now

    def prepare(self, hook: Any, observables: Sequence[Observable], lists: Any) -> tuple[Results, list[Question]]:
        """
        What is known about these values without a call, and the questions about the others.

        :param hook: the provider's
        :param lists: the references of our copies
        """
        known: Results = {o: why for o in observables if (why := hook.unaskable(o)) is not None}
        left = [o for o in observables if o not in known]
        for answer in hook.answers(left, lists or (), now=settings.now()) if left else ():
            known[answer.observable] = answer
        left = [o for o in left if o not in known]
        return known, hook.questions(left) if left and self.is_remote else []

    # --- asking -------------------------------------------------------------------------------------------

    def _ask(
        self, observables: Sequence[Observable], can_act: Collection[Observable], ledger: Ledger, *, backfill: bool
    ) -> Results:
        """An answer for each of the values, or why there is none."""
        results: Results = {}
        otherwise = NoAnswer(Answer.ERROR, "passed over by the provider")
        hook = self.hook()
        try:
            if self.needs_lists and not self.lists:
                # Without this, every value would pass for "not listed".
                raise Unexpected(self.vendor, "lists", "its refresh gave no list to look a value up in")
            known, questions = self.prepare(hook, observables, self.lists)
            self._keep(ledger, known.values())
            results |= known
            meter = partial(meter_of, hook, ledger=ledger, backfill=backfill, wait=self.wait)
            self._ask_in_turn(hook, questions, frozenset(can_act), meter, results)
        except VendorError as error:
            self.log.warning("%s gave no answer about %d observables: %s", self.vendor, len(observables), error)
            otherwise = _no_answer(error)
        return {o: results.get(o, otherwise) for o in observables}

    def _ask_in_turn(
        self,
        hook: Any,
        questions: Sequence[Question],
        can_act: frozenset[Observable],
        meter_for: Callable[..., Meter],
        results: Results,
    ) -> None:
        """
        Ask first whatever is about a value that can become a block, and then the others, within what is not kept.

        :param results: what is answered already, and then all of it
        """
        trying_shortcuts, tried, refused = True, set[int](), dict[str | None, NoAnswer]()
        for chosen, keeps in _turns(questions, can_act, meter_for):
            for place, question in enumerate(questions):
                left = [o for o in question.observables if o not in results]
                # A shortcut is one call, whatever it is about: it belongs to the best of its values.
                now = [o for o in left if o in chosen]
                if not now or place in tried:  # the questions before it have answered it
                    continue
                meter = meter_for(question.kind, keeps=keeps)
                if not question.shortcut and question.kind in refused:
                    results |= dict.fromkeys(now, refused[question.kind])
                elif not question.shortcut:
                    answers, stopped = self._round(hook, question, now, meter)
                    results |= answers
                    if stopped and stopped.answer is Answer.ERROR:  # a wrong key: one call finds out
                        refused[question.kind] = stopped
                elif trying_shortcuts:
                    tried.add(place)
                    short = self._shortcut(hook, question, left, meter)
                    results |= short or {}
                    trying_shortcuts = short is not None

    def _round(
        self, hook: Any, question: Question, observables: Sequence[Observable], meter: Meter
    ) -> tuple[Results, NoAnswer | None]:
        """The answers, and why the round ended early."""
        ledger = meter.ledger
        asking = Round(
            call=question.call,
            hook=hook,
            meter=meter,
            known=lambda some: ledger.answers.known(self.vendor, some, now=settings.now()),
            keep=lambda some: self._keep(ledger, some),
        )
        results = asking.run(observables, at_once=question.at_once)
        if asking.stopped:
            # Loudly, and once.
            unanswered = sum(isinstance(r, NoAnswer) for r in results.values())
            self.log.warning("%s gave no answer about %d observables: %s", self.vendor, unanswered, asking.stopped.why)
        self.log.info(
            "%s: %d calls%s", self.vendor, asking.calls, f" of {meter.account.name}" * bool(meter.account.name)
        )
        return results, asking.stopped

    def _shortcut(
        self, hook: Any, question: Question, observables: Sequence[Observable], meter: Meter
    ) -> Results | None:
        """The answers of one call about all the values; None where it fails: later questions are about them, too."""
        try:
            with metered(meter):
                answers = question.call(hook, observables)
        except VendorError as error:
            self.log.warning("%s: going on without %s: %s", self.vendor, meter.account.name, error)
            return None
        self._keep(meter.ledger, answers)
        return {answer.observable: answer for answer in answers}

    def _locally_listed(self) -> set[Observable]:
        said = [ReputationBatch.model_validate(batch) for batch in (self.local or {}).values() if batch is not None]
        return {r.observable for batch in said for r in batch.reputations if r.answer is Answer.LISTED}

    def _keep(self, ledger: Ledger, answers: Iterable[Reputation | NoAnswer]) -> None:
        """Store the real answers. A local list's only where they changed: it is read again in every run."""
        real = [r for r in answers if isinstance(r, Reputation) and r.score is not None]
        if not real:
            return
        if not self.is_remote:
            before = ledger.answers.known(self.vendor, [r.observable for r in real], now=settings.now(), stale=True)
            real = [r for r in real if (old := before.get(r.observable.key)) is None or _differ(old, r)]
        hours = settings.policy().reputation_hours
        life = {Answer.LISTED: timedelta(hours=hours.listed), Answer.NOT_LISTED: timedelta(hours=hours.not_listed)}
        ledger.answers.store((r, life[r.answer]) for r in real)

    def _reputation(self, observable: Observable, said: Reputation | NoAnswer) -> Reputation:
        if isinstance(said, Reputation):
            return said
        return Reputation(
            observable=observable,
            provider=self.vendor,
            answer=said.answer,
            summary=one_line(said.why),
            known_at=settings.now(),
            retry_at=said.retry_at,
        )

    def _tell(self, answers: Sequence[Reputation], stored: dict[str, Reputation]) -> None:
        """One line for each value that the provider was to be asked about, and one for all of them."""
        asked = [r for r in answers if r.answer is not Answer.NOT_APPLICABLE]
        for reputation in asked:
            self.log.info(
                "%s %s: %s%s; %s%s",
                self.vendor,
                one_line(reputation.observable.key),
                reputation.answer.value,
                "" if reputation.score is None else f" score {reputation.score}",
                one_line(reputation.summary),
                " (stored answer)" if reputation.observable.key in stored else "",
            )
        answered = sum(r.score is not None for r in asked)
        self.log.info(
            "%s: %d new answers, %d stored ones, %d without an answer, %d not for this provider",
            self.vendor,
            answered - len(stored),
            len(stored),
            len(asked) - answered,
            len(answers) - len(asked),
        )


def _turns(
    questions: Sequence[Question], can_act: frozenset[Observable], meter_for: Callable[..., Meter]
) -> tuple[tuple[frozenset[Observable], bool], ...]:
    """Which values to ask about one after the other, and whether these leave what is kept of the quotas."""
    everything = frozenset(o for question in questions for o in question.observables)
    # Without a quota that lasts nothing is kept for anybody, and two rounds would only be more calls.
    lasts = any(meter_for(question.kind).has_lasting_quota for question in questions)
    return ((can_act, False), (everything, True)) if lasts else ((everything, False),)


def _no_answer(error: VendorError) -> NoAnswer:
    """What to say of each value when the provider cannot be asked at all."""
    if isinstance(error, RateLimited):
        seconds = min(error.retry_after or 0, 86_400.0)
        return NoAnswer(Answer.NOT_CHECKED, str(error), settings.now() + timedelta(seconds=seconds))
    again = isinstance(error, (Unavailable, Unauthorized))
    return NoAnswer(Answer.ERROR, str(error), settings.now() if again else None)


def _differ(old: Reputation, new: Reputation) -> bool:
    """Whether a list says something else now, and not only at another time."""
    return old.model_copy(update={"known_at": new.known_at, "body_digest": new.body_digest}) != new


#: What the registry takes where a vendor does not differ.
ENRICH, REFRESH = Enrich, Refresh
