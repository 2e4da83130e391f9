"""The stages' contracts: what a vendor's operator takes and gives, and everything that is the same for all of them.

A vendor fills in the small methods; archiving, the ledger, the gate, plan mode, logging and "one item's failure
costs that item only" live here, once.
"""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from airflow.sdk import BaseOperator, BaseSensorOperator, Context, PokeReturnValue
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException
from pydantic import ValidationError

from include.soar.enrich.quota import Account, Quota
from include.soar.enrich.sift import Sifted, sift
from include.soar.ledger import Ledger
from include.soar.model import (
    Action,
    ActionBatch,
    Answer,
    CaseBatch,
    Decision,
    FetchBatch,
    Finding,
    IncidentBatch,
    IncidentOutcome,
    Indicator,
    Observable,
    ObservableType,
    Outcome,
    RejectedRecord,
    Reputation,
    ReputationBatch,
    Severity,
    Verb,
    Window,
    digest,
)
from include.soar.vendor.errors import (
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    Unexpected,
    VendorError,
    one_line,
)
from threat_response.runtime import settings
from threat_response.stages.asking import Meter, Round, Silence, clock_words
from threat_response.transport.hook import VendorHook


class RecordProblem(ValueError):
    """A vendor's record that cannot be read: which field, and what is wrong with it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


# --- stage 1 ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """One raw page: the bytes as they came, and its records."""

    number: int
    body: bytes
    records: list[Any]


class FetchOperator(BaseOperator):
    """
    Read every finding of the run's window from one source. Contract of stage 1.

    Gives a ``FetchBatch`` as JSON. Each raw page is archived as it came; a record that cannot be read is kept
    aside and named; the window gets a row in the ledger. A short read is an error.

    :param conn_id: the source's connection. Absent: the task is skipped.
    :param overlap: how far before the window's start to read again, for events that arrived late. A finding
        from there counts only if no earlier window has read it.
    """

    source: ClassVar[str]
    hook_class: ClassVar[type[VendorHook]]
    #: A source that is only complete some time after the fact: the task waits until then.
    settled_after: ClassVar[timedelta] = timedelta(0)

    template_fields: Sequence[str] = ("conn_id",)

    def __init__(self, *, conn_id: str | None = None, overlap: timedelta = timedelta(hours=3), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id or self.hook_class.default_conn_name
        self.overlap = overlap

    # what a vendor fills in

    def read(self, hook: Any, start_at: datetime, end_at: datetime) -> list[Page]:
        """
        Every page of ``[start_at, end_at)``, by detection time.

        :raises Unexpected: the vendor's own totals say that something is missing
        """
        raise NotImplementedError

    def parse(self, record: Any) -> Finding:
        """
        One record as a finding.

        :raises RecordProblem: naming the field (a pydantic ``ValidationError`` does as well)
        """
        raise NotImplementedError

    def name_of(self, record: Any) -> str | None:
        """The vendor's id of a record, for naming it when it cannot be read; None to name it by its place."""
        return None

    # what is the same for all

    def execute(self, context: Context) -> dict[str, Any]:
        settings.skip_if_absent(self.conn_id, f"source {self.source}")
        window = settings.window(context)
        settled_at = window.end_at + self.settled_after
        if settings.now() < settled_at:
            self.log.info("%s is complete up to %s only at %s: waiting", self.source, window.end_at, settled_at)
            raise AirflowRescheduleException(settled_at)
        self.log.info(
            "Reading %s for [%s, %s), chosen by %s; from %s on for late events",
            self.source,
            window.start_at,
            window.end_at,
            window.chosen_by,
            window.start_at - self.overlap,
        )
        pages = self.read(self.hook_class(self.conn_id), window.start_at - self.overlap, window.end_at)
        archived = [self._archive(window, page) for page in pages]
        findings, rejected = self._parse_all(pages, archived)
        batch = self._batch(window, pages, archived, findings, rejected)
        ledger = settings.ledger()
        now = settings.now()
        owners = ledger.claim_findings(batch.findings, window_key=window.key, now=now)
        mine = tuple(f for f in batch.findings if f.detected_at >= window.start_at or owners[f.uid] == window.key)
        late = sum(f.detected_at < window.start_at for f in mine)
        batch = batch.model_copy(update={"findings": mine})
        ledger.record_window(batch, run_id=settings.run_name(context), now=now)
        self.log.info(
            "%s: %d records on %d pages, %d findings of this window (%d of them late), %d records not readable",
            self.source,
            batch.records,
            batch.pages,
            len(mine),
            late,
            len(rejected),
        )
        return batch.to_json()

    def _archive(self, window: Window, page: Page) -> str:
        # Named by content: a repeated read leaves the same object, a changed one leaves both.
        name = f"{window.key}/page-{page.number:05d}-{digest(page.body.hex())[:12]}.json.gz"
        return settings.archive_write(
            settings.archive() / "raw" / self.source / name, gzip.compress(page.body, compresslevel=6, mtime=0)
        )

    def _parse_all(self, pages: list[Page], archived: list[str]) -> tuple[list[Finding], list[RejectedRecord]]:
        findings: list[Finding] = []
        rejected: list[RejectedRecord] = []
        for page, kept_at in zip(pages, archived, strict=True):
            for row, record in enumerate(page.records):
                try:
                    findings.append(self.parse(record))
                except (RecordProblem, ValidationError) as error:
                    rejected.append(self._reject(record, page.number, row, kept_at, error))
        return findings, rejected

    def _reject(
        self, record: Any, page: int, row: int, kept_at: str, error: RecordProblem | ValidationError
    ) -> RejectedRecord:
        if isinstance(error, ValidationError):
            first = error.errors(include_input=False, include_url=False)[0]
            field_name, problem = ".".join(map(str, first["loc"])) or "(whole)", first["msg"]
        else:
            field_name, problem = error.field, error.problem
        rejection = RejectedRecord(
            source=self.source,
            record=one_line(self.name_of(record) or f"page {page}, row {row}", 200),
            field=field_name,
            problem=one_line(problem),
            kept_at=kept_at,
        )
        self.log.warning(
            "Left out %s record %s: field %s: %s; kept at %s",
            self.source,
            rejection.record,
            rejection.field,
            rejection.problem,
            kept_at,
        )
        return rejection

    def _batch(
        self,
        window: Window,
        pages: list[Page],
        archived: list[str],
        findings: list[Finding],
        rejected: list[RejectedRecord],
    ) -> FetchBatch:
        # The same event may come twice (as two rows, or on two pages of a list that grew): the last word wins.
        unique = {f.uid: f for f in findings}
        ordered = sorted(unique.values(), key=lambda f: (f.detected_at, f.uid))
        return FetchBatch(
            source=self.source,
            window=window,
            pages=len(pages),
            records=sum(len(page.records) for page in pages),
            archive=tuple(archived),
            digest=digest([f.uid for f in ordered]),
            findings=tuple(ordered),
            rejected=tuple(rejected),
        )


# --- stage 3 ------------------------------------------------------------------------------------------------


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
    stores_answers: ClassVar[bool] = True
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
        quotas = rules.quotas_of(self.provider, declared)
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
            policy.gate_at(now),
            provider=self.provider,
            types=self.types,
            leaves_the_house=self.stores_answers,
            minimum_severity=minimum_severity,
            listed=self._locally_listed(),
        )

    def stored(
        self, ledger: Ledger, window: Window, observables: Sequence[Observable], *, frozen: bool, now: datetime
    ) -> tuple[dict[str, Reputation], datetime]:
        """The answers that need no call, by observable key, and the time at which they were known."""
        if frozen:
            at = ledger.first_decided_at(window) or window.end_at
            # A list's answers are not asked for again and again, so they do not end.
            return ledger.reputations(self.provider, observables, now=at, stale=not self.stores_answers), at
        return ledger.reputations(self.provider, observables, now=now) if self.stores_answers else {}, now

    def execute(self, context: Context) -> dict[str, Any]:
        settings.skip_if_absent(self.conn_id, f"enrichment by {self.provider}")
        if self.case is None:
            # The run is red already, by the stage that gave nothing.
            raise AirflowSkipException(f"{self.provider} is not asked: there is no case")
        case = CaseBatch.model_validate(self.case)
        ledger, now = settings.ledger(), settings.now()
        self._ledger, self._backfill = ledger, settings.is_backfill(context)
        sifted = self.questions(case, now=now, minimum_severity=settings.minimum_severity(context))
        frozen = settings.answers_are_frozen(context) and self.has_opinion
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
            return ledger.reputations(self.provider, some, now=settings.now()) if self.stores_answers else {}

        asking = Round(
            call=lambda hook, some: on(getattr(hook, name), some),
            hook=hook,
            meter=meter,
            known=known,
            keep=lambda some: self._keep(ledger, some),
        )
        results = asking.run(observables, at_once=at_once)
        self._asked |= results.keys()
        silent = [r for r in results.values() if isinstance(r, Silence)]
        if asking.stopped:
            # Loudly, and once.
            self.log.warning("%s is silent for %d observables: %s", self.provider, len(silent), asking.stopped.why)
        self.log.info("%s: %d calls of %s", self.provider, asking.calls, name)
        return [
            self._silence(o, r.answer, r.why, retry_at=r.retry_at) if isinstance(r, Silence) else r
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
        if not self.stores_answers:
            before = ledger.reputations(self.provider, [r.observable for r in real], now=settings.now(), stale=True)
            real = [r for r in real if (old := before.get(r.observable.key)) is None or _differ(old, r)]
        hours = settings.policy().reputation_hours
        life = {Answer.LISTED: timedelta(hours=hours.listed), Answer.NOT_LISTED: timedelta(hours=hours.not_listed)}
        ledger.store_reputations((r, life[r.answer]) for r in real)

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


# --- stages 6, 7, 8 -----------------------------------------------------------------------------------------


@dataclass
class Done:
    """What a control's ``ensure`` achieved: an action per indicator it got to, and what stopped it, if anything."""

    actions: list[Action] = field(default_factory=list)
    error: VendorError | None = None


class ControlOperator(BaseOperator):
    """
    Ask one enforcement point to act on the decision's indicators. Contract of stages 6, 7 and 8.

    Takes a ``Decision`` and an ``IncidentBatch``, gives an ``ActionBatch``. Every indicator passes the
    never-block gate again, here, at the last moment. In plan mode nothing is written and each action says what
    would be done. An item that fails is reported as failed, the others go on, and the task then fails, after
    its batch was published for the incident's update.

    No action without an incident that tells of it: an indicator whose every incident could not be opened is left
    alone and reported as failed; the others go on.

    :param decision: (templated)
    :param incidents: where the findings' incidents are (templated); None: none was opened, the task is skipped
    :param conn_id: the control's connection. Absent: the task is skipped.
    """

    control: ClassVar[str]
    verb: ClassVar[Verb]
    types: ClassVar[frozenset[ObservableType]]
    hook_class: ClassVar[type[VendorHook]]
    #: False for a watchlist: being watched harms nobody, so a protected value may be watched.
    gated: ClassVar[bool] = True

    template_fields: Sequence[str] = ("decision", "incidents", "conn_id")

    def __init__(self, *, decision: Any, incidents: Any, conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decision = decision
        self.incidents = incidents
        self.conn_id = conn_id or self.hook_class.default_conn_name

    def wants(self, indicator: Indicator) -> bool:
        """Whether this control acts on such an indicator at all. By type; a vendor may narrow it (by role)."""
        return indicator.observable.type in self.types

    def ensure(self, hook: Any, indicators: Sequence[Indicator], incidents: dict[str, list[str]]) -> Done:
        """
        Look, write what is missing, read back. The outcome of each action is what was read back.

        :param hook: writes are allowed
        :param incidents: readable incident ids by observable key, for descriptions
        """
        raise NotImplementedError

    def plan(self, hook: Any, indicators: Sequence[Indicator], incidents: dict[str, list[str]]) -> Done:
        """As ``ensure``, without writing; the hook refuses writes. By default: each would be acted on."""
        return Done([self.action(i, Outcome.PLANNED, f"would be sent to {self.control}") for i in indicators])

    def action(self, indicator: Indicator, outcome: Outcome, detail: str, **more: Any) -> Action:
        return Action(
            control=self.control,
            verb=self.verb,
            observable=indicator.observable,
            outcome=outcome,
            detail=detail,
            expires_at=more.pop("expires_at", indicator.expires_at),
            **more,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        settings.skip_if_absent(self.conn_id, f"control {self.control}")
        if self.decision is None or self.incidents is None:
            # The run is red already, by the stage that gave nothing.
            raise AirflowSkipException(
                f"{self.control} does nothing: there is no decision, or no incident to tell of it"
            )
        decision = Decision.model_validate(self.decision)
        incidents = IncidentBatch.model_validate(self.incidents)
        writes = settings.may_write(context, blocks=True)
        gate = settings.policy().gate_at(settings.now())
        told = {ref.finding_uid for ref in incidents.incidents if ref.outcome is not IncidentOutcome.FAILED}
        wanted: list[Indicator] = []
        actions: list[Action] = []
        for indicator in decision.indicators:
            if not self.wants(indicator):
                roles = ", ".join(role.value for role in indicator.roles)
                why = f"{self.control} does not act on {indicator.observable.type.value} seen as {roles}"
                actions.append(self.action(indicator, Outcome.UNSUPPORTED, why, expires_at=None))
            elif self.gated and (hit := gate.check(indicator.observable)):
                actions.append(self.action(indicator, Outcome.PROTECTED, hit.reason, expires_at=None))
            elif indicator.expires_at <= settings.now():
                actions.append(self.action(indicator, Outcome.EXPIRED, "its time is over"))
            elif not told.intersection(indicator.finding_uids):
                why = "its incident could not be opened, and nothing is done that no incident tells of"
                actions.append(self.action(indicator, Outcome.FAILED, why, expires_at=None))
            else:
                wanted.append(indicator)
        done = Done()
        if wanted:
            hook = self.hook_class(self.conn_id, writes_allowed=writes)
            attempt = self.ensure if writes else self.plan
            try:
                done = attempt(hook, wanted, _incidents_by_observable(decision, incidents))
            except VendorError as error:
                done = Done(error=error)
        reached = {a.observable for a in done.actions}
        left = [i for i in wanted if i.observable not in reached]
        if left and done.error is None:
            done.error = Unexpected(self.control, "ensure", f"{len(left)} indicators were passed over")
        done.actions += [self.action(i, Outcome.FAILED, str(done.error)) for i in left]
        batch = ActionBatch(
            control=self.control,
            actions=tuple(sorted(actions + done.actions, key=lambda a: a.observable.key)),
        )
        self._tell(batch)
        if writes:
            settings.ledger().record_actions(batch, run_id=settings.run_name(context), now=settings.now())
        if done.error is None:
            done.error = next((_as_error(a) for a in batch.actions if a.outcome is Outcome.FAILED), None)
        if done.error is not None:
            # Published although the task fails: the incident must be able to tell what was and was not done.
            context["ti"].xcom_push(key="return_value", value=batch.to_json())
            raise done.error
        return batch.to_json()

    def _tell(self, batch: ActionBatch) -> None:
        """One line per item: what, outcome, why, proof."""
        for action in batch.actions:
            self.log.info(
                "%s %s %s: %s%s; %s%s%s",
                self.control,
                self.verb.value,
                one_line(action.observable.key),
                action.outcome.value,
                " (changed now)" if action.changed else "",
                one_line(action.detail),
                f"; until {action.expires_at:%Y-%m-%dT%H:%MZ}" if action.expires_at else "",
                "".join(f"; {k}={one_line(v, 100)}" for k, v in action.proof.items()),
            )


def _as_error(action: Action) -> VendorError:
    return Rejected(action.control, action.verb.value, f"{one_line(action.observable.key)}: {action.detail}")


def _incidents_by_observable(decision: Decision, incidents: IncidentBatch) -> dict[str, list[str]]:
    names = {r.finding_uid: r.readable_id or r.unique_id for r in incidents.incidents}
    return {
        i.observable.key: sorted({name for uid in i.finding_uids if (name := names.get(uid))})
        for i in decision.indicators
    }


class ConfirmSensor(BaseSensorOperator):
    """
    Wait until a control's environment says that pending actions are in force. Frees its slot between looks.

    Takes and gives an ``ActionBatch``. When the patience ends the actions stay ``pending`` and the task
    succeeds: the incident says so, and nothing claims a block that is not there yet.

    :param actions: the control's batch (templated)
    :param patience: how long to wait
    """

    control: ClassVar[str]
    hook_class: ClassVar[type[VendorHook]]

    template_fields: Sequence[str] = ("actions", "conn_id")

    def __init__(
        self,
        *,
        actions: Any,
        conn_id: str | None = None,
        patience: timedelta = timedelta(minutes=30),
        poke_interval: float = 30,
        **kwargs: Any,
    ) -> None:
        # The sensor's own time-out would fail the task; ours, below, ends it with what is true.
        super().__init__(mode="reschedule", poke_interval=poke_interval, timeout=patience.total_seconds() * 2, **kwargs)
        self.actions = actions
        self.conn_id = conn_id or self.hook_class.default_conn_name
        self.patience = patience

    def look(self, hook: Any, actions: Sequence[Action]) -> list[Action]:
        """The same actions, with the outcome that the environment confirms now. Writes nothing."""
        raise NotImplementedError

    def poke(self, context: Context) -> PokeReturnValue:
        settings.skip_if_absent(self.conn_id, f"control {self.control}")
        batch = ActionBatch.model_validate(self.actions)
        pending = [a for a in batch.actions if a.outcome is Outcome.PENDING]
        if not pending:
            return PokeReturnValue(True, batch.to_json())
        hook = self.hook_class(self.conn_id, writes_allowed=False)
        confirmed = {a.observable: a for a in self.look(hook, pending)}
        batch = batch.model_copy(update={"actions": tuple(confirmed.get(a.observable, a) for a in batch.actions)})
        waiting = sum(a.outcome is Outcome.PENDING for a in batch.actions)
        started_at = context["ti"].get_first_reschedule_date(context) or settings.now()
        if waiting and settings.now() - started_at < self.patience:
            self.log.info("%s: %d of %d not in force yet", self.control, waiting, len(pending))
            return PokeReturnValue(False)
        for action in batch.actions:
            if action.observable in confirmed:
                self.log.info(
                    "%s %s: %s; %s", self.control, one_line(action.observable.key), action.outcome.value, action.detail
                )
        if waiting:
            self.log.warning(
                "%s: %d still pending after %s; the incident says so", self.control, waiting, self.patience
            )
        settings.ledger().record_actions(batch, run_id=settings.run_name(context), now=settings.now())
        return PokeReturnValue(True, batch.to_json())


def load_json_lines(text: str) -> list[Any]:
    """NDJSON, blank lines left out."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]
