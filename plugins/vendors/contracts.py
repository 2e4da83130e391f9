"""The stages' contracts: what a vendor's operator takes and gives, and everything that is the same for all of them.

A vendor fills in the small methods; archiving, the ledger, the gate, plan mode, logging and "one item's failure
costs that item only" live here, once.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from airflow.sdk import BaseOperator, BaseSensorOperator, Context, PokeReturnValue
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException
from pydantic import ValidationError

from include.soar.errors import RateLimited, Rejected, Unexpected, VendorError, one_line
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
    Verb,
    Window,
    digest,
)
from vendors import house
from vendors.base import VendorHook


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
        house.skip_if_absent(self.conn_id, f"source {self.source}")
        window = house.window(context)
        settled_at = window.end_at + self.settled_after
        if house.now() < settled_at:
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
        ledger = house.ledger()
        now = house.now()
        owners = ledger.claim_findings(batch.findings, window_key=window.key, now=now)
        mine = tuple(f for f in batch.findings if f.detected_at >= window.start_at or owners[f.uid] == window.key)
        late = sum(f.detected_at < window.start_at for f in mine)
        batch = batch.model_copy(update={"findings": mine})
        ledger.record_window(batch, run_id=house.run_name(context), now=now)
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
        return house.archive_write(
            house.archive() / "raw" / self.source / name, gzip.compress(page.body, compresslevel=6, mtime=0)
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

    Takes a ``CaseBatch``, gives a ``ReputationBatch`` with one answer per observable. Never asks about private,
    own or partner values, nor twice about the same; stored answers come first; a spent quota or a broken
    provider gives ``not_checked`` or ``error``, never "clean", and stops nothing.

    :param case: the extract stage's batch (templated)
    :param conn_id: the provider's connection. Absent: the task is skipped.
    """

    provider: ClassVar[str]
    types: ClassVar[frozenset[ObservableType]]
    hook_class: ClassVar[type[VendorHook]]
    #: False for a provider that costs nothing to ask (a local list): its answers are not stored.
    stores_answers: ClassVar[bool] = True

    template_fields: Sequence[str] = ("case", "conn_id")

    def __init__(self, *, case: Any, conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case
        self.conn_id = conn_id or self.hook_class.default_conn_name

    def ask(self, hook: Any, observables: Sequence[Observable]) -> list[Reputation]:
        """
        Answers for all of them, in any order. Raise only what stops the provider for all the rest; an
        observable without an answer is then reported as ``not_checked`` (quota) or ``error``. Use
        :meth:`ask_each` where the provider is asked one by one.
        """
        raise NotImplementedError

    def ask_each(self, one: Callable[[Observable], Reputation], observables: Sequence[Observable]) -> list[Reputation]:
        """One question per observable: an item that the provider rejects costs that item, anything else the rest."""
        answers: list[Reputation] = []
        for number, observable in enumerate(observables):
            try:
                answers.append(one(observable))
            except Rejected as error:
                answers.append(self._silence(observable, Answer.ERROR, str(error)))
            except VendorError as error:
                answers.extend(self._silences(observables[number:], error))
                break
        return answers

    def execute(self, context: Context) -> dict[str, Any]:
        house.skip_if_absent(self.conn_id, f"enrichment by {self.provider}")
        case = CaseBatch.model_validate(self.case)
        gate, ledger, now = house.policy().gate, house.ledger(), house.now()
        answers: list[Reputation] = []
        to_ask: list[Observable] = []
        for observed in case.observed:
            observable = observed.observable
            if observable.type not in self.types:
                answers.append(self._silence(observable, Answer.NOT_APPLICABLE, f"no {observable.type.value} here"))
            elif hit := gate.private(observable):
                answers.append(self._silence(observable, Answer.NOT_APPLICABLE, f"not sent out: {hit.reason}"))
            else:
                to_ask.append(observable)
        stored = ledger.reputations(self.provider, to_ask, now=now) if self.stores_answers else {}
        answers.extend(stored.values())
        fresh: list[Reputation] = []
        missing = [o for o in to_ask if o.key not in stored]
        if missing:
            try:
                said = {r.observable: r for r in self.ask(self.hook_class(self.conn_id), missing)}
                fresh = [said.get(o) or self._silence(o, Answer.ERROR, "passed over by the provider") for o in missing]
            except VendorError as error:
                fresh = self._silences(missing, error)
        real = [r for r in fresh if self.stores_answers and r.answer in (Answer.LISTED, Answer.NOT_LISTED)]
        hours = house.policy().reputation_hours
        life = {
            Answer.LISTED: timedelta(hours=hours.listed),
            Answer.NOT_LISTED: timedelta(hours=hours.not_listed),
        }
        ledger.store_reputations((r, life[r.answer]) for r in real)
        answers.extend(fresh)
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
            "%s: asked about %d, %d stored answers, %d not for this provider",
            self.provider,
            len(missing),
            len(stored),
            len(answers) - len(missing) - len(stored),
        )
        ordered = sorted(answers, key=lambda r: r.observable.key)
        return ReputationBatch(provider=self.provider, reputations=tuple(ordered)).to_json()

    def _silences(self, observables: Sequence[Observable], error: VendorError) -> list[Reputation]:
        """The provider went silent: say so for each, and say loudly once."""
        answer = Answer.NOT_CHECKED if isinstance(error, RateLimited) else Answer.ERROR
        self.log.warning("%s is silent for %d observables: %s", self.provider, len(observables), error)
        return [self._silence(o, answer, str(error)) for o in observables]

    def _silence(self, observable: Observable, answer: Answer, summary: str) -> Reputation:
        return Reputation(
            observable=observable,
            provider=self.provider,
            answer=answer,
            summary=one_line(summary),
            known_at=house.now(),
        )


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
        house.skip_if_absent(self.conn_id, f"control {self.control}")
        if self.decision is None or self.incidents is None:
            # The run is red already, by the stage that gave nothing.
            raise AirflowSkipException(
                f"{self.control} does nothing: there is no decision, or no incident to tell of it"
            )
        decision = Decision.model_validate(self.decision)
        incidents = IncidentBatch.model_validate(self.incidents)
        writes = house.may_write(context, blocks=True)
        gate = house.policy().gate
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
            elif indicator.expires_at <= house.now():
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
            house.ledger().record_actions(batch, run_id=house.run_name(context), now=house.now())
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
        house.skip_if_absent(self.conn_id, f"control {self.control}")
        batch = ActionBatch.model_validate(self.actions)
        pending = [a for a in batch.actions if a.outcome is Outcome.PENDING]
        if not pending:
            return PokeReturnValue(True, batch.to_json())
        hook = self.hook_class(self.conn_id, writes_allowed=False)
        confirmed = {a.observable: a for a in self.look(hook, pending)}
        batch = batch.model_copy(update={"actions": tuple(confirmed.get(a.observable, a) for a in batch.actions)})
        waiting = sum(a.outcome is Outcome.PENDING for a in batch.actions)
        started_at = context["ti"].get_first_reschedule_date(context) or house.now()
        if waiting and house.now() - started_at < self.patience:
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
        house.ledger().record_actions(batch, run_id=house.run_name(context), now=house.now())
        return PokeReturnValue(True, batch.to_json())


def load_json_lines(text: str) -> list[Any]:
    """NDJSON, blank lines left out."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]
