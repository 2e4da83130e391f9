"""Reading and writing the ledger. Every method is one transaction; every write is an upsert."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Select, create_engine, delete, event, func, inspect, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, aliased

from include.soar.enrich.quota import Account, Admission, Quota, QuotaSeen, Reservation, backfills_part, longest
from include.soar.enrich.sift import Unfinished
from include.soar.gate.gate import Gate
from include.soar.gate.layers import Hit
from include.soar.judge.verdict import ACT, HOLD, History, Judgement
from include.soar.ledger.tables import (
    AccountRow,
    ActionRow,
    ClaimRow,
    FindingRow,
    IncidentRow,
    PolicyRow,
    QuotaRow,
    ReputationRow,
    Table,
    UnfinishedRow,
    VerdictRow,
    WindowRow,
)
from include.soar.model import (
    IN_FORCE,
    ActionBatch,
    FetchBatch,
    Finding,
    Observable,
    Outcome,
    Reputation,
    Severity,
    Standing,
    Window,
    digest,
)
from include.soar.policy.rules import Policy

#: The newest migration. A test holds it equal to Alembic's own head.
HEAD = "0003"
MIGRATIONS = Path(__file__).parent / "migrations"

#: Rows in one statement: SQLite allows 32,766 variables.
CHUNK = 500


def chunks(items: Sequence[Any], size: int = CHUNK) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def migrate(url: str) -> None:
    """Bring the database at ``url`` to the newest schema. Safe to call from several processes at once."""
    # Imported here: Alembic costs a quarter of a second, and a task on a current schema never needs it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    command.upgrade(config, "head")


class Ledger:
    """
    :param url: SQLAlchemy URL. A SQLite file and its folder are made, and the schema is brought up to date, on
        first use.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self.engine = _engine(url)
        if not self._is_current():
            migrate(url)

    def close(self) -> None:
        self.engine.dispose()

    def _is_current(self) -> bool:
        with self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return False
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with Session(self.engine) as session, session.begin():
            yield session

    def _upsert(self, session: Session, table: type[Table], rows: Sequence[dict[str, Any]], keep: set[str]) -> None:
        """Insert; on a conflict of primary keys overwrite every column but those in ``keep``."""
        dialect: Any = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        keys = [column.name for column in inspect(table).primary_key]
        # One row a key, the last: Postgres refuses to update a row twice in one statement.
        distinct = {tuple(row[key] for key in keys): row for row in rows}
        for part in chunks(list(distinct.values()), 300):
            statement = dialect.insert(table).values(list(part))
            changes = {c: statement.excluded[c] for c in part[0] if c not in keys and c not in keep}
            if changes:
                statement = statement.on_conflict_do_update(index_elements=keys, set_=changes)
            else:
                statement = statement.on_conflict_do_nothing(index_elements=keys)
            session.execute(statement)

    # --- windows and findings ---------------------------------------------------------------------------

    def record_window(self, batch: FetchBatch, *, run_id: str, now: datetime) -> None:
        row = {
            "source": batch.source,
            "start_at": batch.window.start_at,
            "end_at": batch.window.end_at,
            "chosen_by": batch.window.chosen_by,
            "run_id": run_id,
            "pages": batch.pages,
            "records": batch.records,
            "findings": len(batch.findings),
            "rejected": len(batch.rejected),
            "digest": batch.digest,
            "fetched_at": now,
        }
        with self._session() as session:
            self._upsert(session, WindowRow, [row], keep=set())

    def windows(self, source: str | None = None) -> list[WindowRow]:
        query = select(WindowRow).order_by(WindowRow.source, WindowRow.start_at)
        if source:
            query = query.where(WindowRow.source == source)
        with Session(self.engine, expire_on_commit=False) as session:
            return list(session.scalars(query))

    def first_decided_at(self, window: Window) -> datetime | None:
        """When a window was first decided on; None: never."""
        query = select(func.min(WindowRow.first_decided_at)).where(
            WindowRow.start_at == window.start_at, WindowRow.end_at == window.end_at
        )
        with self._session() as session:
            return session.scalar(query)

    def record_decided(self, window: Window, *, now: datetime) -> None:
        """Only the first time counts."""
        known = update(WindowRow).where(
            WindowRow.start_at == window.start_at,
            WindowRow.end_at == window.end_at,
            WindowRow.first_decided_at.is_(None),
        )
        with self._session() as session:
            session.execute(known.values(first_decided_at=now))

    def claim_findings(self, findings: Sequence[Finding], *, window_key: str, now: datetime) -> dict[str, str]:
        """
        Note who read each finding first, and tell it: uid -> window key.

        A finding belongs to the first window that read it, for ever: a repeated window gets its own findings
        again, a later window whose overlap reads the same finding again does not.
        """
        rows = [
            {
                "uid": f.uid,
                "source": f.source,
                "vendor_id": f.vendor_id[:512],
                "window_key": window_key,
                "severity": f.severity.value,
                "detected_at": f.detected_at,
                "first_seen_at": now,
            }
            for f in findings
        ]
        owners: dict[str, str] = {}
        with self._session() as session:
            if rows:
                self._upsert(session, FindingRow, rows, keep=set(rows[0]))
            for part in chunks([f.uid for f in findings]):
                query = select(FindingRow.uid, FindingRow.window_key).where(FindingRow.uid.in_(part))
                owners.update({uid: key for uid, key in session.execute(query)})
        return owners

    # --- reputations ------------------------------------------------------------------------------------

    def reputations(
        self, provider: str, observables: Sequence[Observable], *, now: datetime, stale: bool = False
    ) -> dict[str, Reputation]:
        """
        The last answers that were known at ``now`` and still good then, by observable key.

        :param stale: also those that were no longer good
        """
        found: dict[str, Reputation] = {}
        with self._session() as session:
            for part in chunks([o.key for o in observables]):
                query = _last_known(now).where(ReputationRow.provider == provider, ReputationRow.observable.in_(part))
                for row in session.scalars(query):
                    if stale or row.good_until > now:
                        found[row.observable] = Reputation.model_validate(row.document)
        return found

    def store_reputations(self, answers: Iterable[tuple[Reputation, timedelta]]) -> None:
        """Add answers, each with how long it stays good. The caller passes real answers only."""
        rows = [
            {
                "provider": reputation.provider,
                "observable": reputation.observable.key,
                "known_at": reputation.known_at,
                "good_until": reputation.known_at + life,
                "body_digest": reputation.body_digest,
                "document": reputation.to_json(),
            }
            for reputation, life in answers
        ]
        if rows:
            with self._session() as session:
                self._upsert(session, ReputationRow, rows, keep=set())

    def answer_changes(self, start: datetime, end: datetime) -> list[tuple[Reputation | None, Reputation]]:
        """
        What was known at ``start`` and what at ``end``, of each value about which a source said something in between;
        None: nothing was known. By provider and observable.
        """
        newer = _last_known(end).where(ReputationRow.known_at > start)
        changes: dict[tuple[str, str], list[Reputation | None]] = {}
        with self._session() as session:
            for row in session.scalars(newer):
                changes[row.provider, row.observable] = [None, Reputation.model_validate(row.document)]
            for provider in {provider for provider, _ in changes}:
                for part in chunks([key for name, key in changes if name == provider]):
                    older = _last_known(start).where(
                        ReputationRow.provider == provider, ReputationRow.observable.in_(part)
                    )
                    for row in session.scalars(older):
                        changes[provider, row.observable][0] = Reputation.model_validate(row.document)
        return [(before, after) for _, (before, after) in sorted(changes.items()) if after is not None]

    # --- quotas -----------------------------------------------------------------------------------------

    def reserve(
        self,
        account: Account,
        quotas: Sequence[Quota],
        wanted: int,
        *,
        backfill: bool,
        live_share: float,
        now: datetime,
    ) -> Reservation:
        """
        As many of the wanted calls as every quota still has, all or nothing of each: what is granted here is granted
        to nobody else.

        :param quotas: those of this account
        :param live_share: the share of each quota that backfills leave
        """
        with self._session() as session:
            self._locked(session, account)
            periods = [(quota, *self._period(session, account, quota, now)) for quota in quotas]
            left = [_left(*period, backfill, live_share, now) for period in periods]
            granted = max(0, min([wanted, *(one.calls for one in left)]))
            if granted:
                for _, row, _ in periods:
                    row.used += granted
                    row.used_by_backfill += granted if backfill else 0
                    row.last_at = max(row.last_at, now)
            short = max((one for one in left if one.calls < wanted), key=lambda one: one.again_at, default=None)
            return Reservation(
                granted,
                tuple((quota, row.started_at) for quota, row, _ in periods),
                f"{short.whose} used up" if short else "",
                short.again_at if short else None,
            )

    def settle(
        self,
        account: Account,
        reservation: Reservation,
        *,
        unused: int,
        seen: QuotaSeen | None,
        backfill: bool,
        now: datetime,
    ) -> None:
        """
        Give back what was not used of a reservation, and believe what the answers' headers say.

        Their limit replaces ours, their count of used calls raises ours, never lowers it: calls that somebody has
        reserved have not arrived there yet. Only the period in which the call was reserved is corrected.

        :param unused: of the calls granted
        """
        if not reservation.periods or not (unused or seen):
            return
        told = longest([quota for quota, _ in reservation.periods])
        with self._session() as session:
            self._locked(session, account)
            for quota, started_at in reservation.periods:
                row = session.get_one(QuotaRow, (*_key(account), quota.seconds, started_at))
                row.used = max(row.used - unused, row.seen_used)
                row.used_by_backfill = max(row.used_by_backfill - (unused if backfill else 0), 0)
                if seen is None or quota is not told:
                    continue
                if seen.limit is not None:
                    row.allowed = seen.limit
                if seen.remaining is not None:
                    row.seen_used = max(row.seen_used, row.allowed - seen.remaining)
                    row.used = max(row.used, row.seen_used)
                if seen.resets_at and now < seen.resets_at <= now + quota.period:
                    row.ends_at = seen.resets_at

    def quota_left(
        self, account: Account, quotas: Sequence[Quota], *, backfill: bool, live_share: float, now: datetime
    ) -> int | None:
        """How many calls would be granted now; None: there is no quota."""
        if not quotas:
            return None
        with self._session() as session:
            self._locked(session, account)
            periods = [(quota, *self._period(session, account, quota, now)) for quota in quotas]
            return max(0, min(_left(*period, backfill, live_share, now).calls for period in periods))

    def _locked(self, session: Session, account: Account) -> AccountRow:
        """The account's row, which nobody else can change until this transaction ends."""
        row = dict(zip(("provider", "key", "name"), _key(account), strict=True))
        self._upsert(session, AccountRow, [row | {"openings": 0, "reason": ""}], keep={"openings", "reason"})
        return session.get_one(AccountRow, _key(account), with_for_update=True)

    def _period(
        self, session: Session, account: Account, quota: Quota, now: datetime
    ) -> tuple[QuotaRow, QuotaRow | None]:
        """The quota's period at this time, made if it is new, and the one before it."""
        query = (
            select(QuotaRow)
            .where(
                QuotaRow.provider == account.provider,
                QuotaRow.key == account.key,
                QuotaRow.name == account.name,
                QuotaRow.period_seconds == quota.seconds,
            )
            .order_by(QuotaRow.started_at.desc())
            .limit(2)
        )
        rows = list(session.scalars(query))
        # Before the last one's start as well: another worker's clock may be ahead of ours.
        if rows and now < rows[0].ends_at:
            return rows[0], rows[1] if len(rows) > 1 else None
        phase = {"phase": rows[0].ends_at} if rows else {}
        row = QuotaRow(
            **dict(zip(("provider", "key", "name"), _key(account), strict=True)),
            period_seconds=quota.seconds,
            started_at=quota.period_start(now, **phase),
            ends_at=quota.renews_at(now, **phase),
            allowed=quota.calls,
            used=0,
            used_by_backfill=0,
            seen_used=0,
            last_at=now,
        )
        session.add(row)
        return row, rows[0] if rows else None

    # --- breakers ---------------------------------------------------------------------------------------

    def admit(self, account: Account, *, now: datetime, probe_lease: timedelta = timedelta(minutes=2)) -> Admission:
        """
        Whether anybody may ask now. After the breaker's time the first who comes may probe; the others are told to
        wait until the lease ends, by when the probe has closed the breaker or opened it anew.
        """
        with self._session() as session:
            row = self._locked(session, account)
            if row.blocked_until is None:
                return Admission()
            if now < row.blocked_until:
                return Admission(row.blocked_until, row.reason)
            row.blocked_until = now + probe_lease
            return Admission(probe=True)

    def trip(
        self,
        account: Account,
        *,
        reason: str,
        pause: timedelta | None,
        first_pause: timedelta,
        longest_pause: timedelta,
        now: datetime,
    ) -> datetime:
        """
        Open the breaker. Gives the time at which it may be probed.

        :param pause: None: ``first_pause``, and twice as long each time that it opens again without a good answer
        """
        with self._session() as session:
            row = self._locked(session, account)
            if pause is None:
                # The exponent is bounded, or a year of failures would overflow.
                pause = min(first_pause * 2 ** min(row.openings, 20), longest_pause)
            row.openings += 1
            row.blocked_until, row.reason = now + pause, reason
            return row.blocked_until

    def recover(self, account: Account) -> None:
        """The provider answers: close the breaker."""
        with self._session() as session:
            row = self._locked(session, account)
            row.openings, row.blocked_until, row.reason = 0, None, ""

    # --- unfinished -------------------------------------------------------------------------------------

    def unfinished(self, *, now: datetime, since: datetime, limit: int) -> list[Finding]:
        """Findings that asking again may finish now, the oldest first; none that were left before ``since``."""
        query = (
            select(UnfinishedRow)
            .where(UnfinishedRow.retry_at <= now, UnfinishedRow.since >= since)
            .order_by(UnfinishedRow.since, UnfinishedRow.finding_uid)
            .limit(limit)
        )
        with self._session() as session:
            return [Finding.model_validate(row.finding) for row in session.scalars(query)]

    def record_unfinished(
        self, left: Sequence[Unfinished], *, done: Sequence[str], give_up_before: datetime, now: datetime
    ) -> int:
        """
        Remember what a run could not finish, and forget what it could.

        :param done: uids of findings that are complete
        :param give_up_before: forget what has been unfinished since before then
        :return: how many were given up
        """
        rows = [
            {
                "finding_uid": one.finding.uid,
                "since": now,
                "retry_at": one.retry_at,
                "providers": list(one.providers),
                "finding": one.finding.to_json(),
            }
            for one in left
        ]
        with self._session() as session:
            if rows:
                self._upsert(session, UnfinishedRow, rows, keep={"since"})
            for part in chunks(done):
                session.execute(delete(UnfinishedRow).where(UnfinishedRow.finding_uid.in_(part)))
            old = select(UnfinishedRow).where(UnfinishedRow.since < give_up_before)
            given_up = list(session.scalars(old))
            for row in given_up:
                session.delete(row)
            return len(given_up)

    # --- incidents --------------------------------------------------------------------------------------

    def incident(self, marker: str) -> IncidentRow | None:
        with Session(self.engine, expire_on_commit=False) as session:
            return session.get(IncidentRow, marker)

    def record_incident(
        self, marker: str, finding_uid: str, *, unique_id: str, readable_id: str | None, now: datetime
    ) -> None:
        """The incident exists: remember it."""
        row = {
            "marker": marker,
            "finding_uid": finding_uid,
            "unique_id": unique_id,
            "readable_id": readable_id,
            "updated_at": now,
        }
        with self._session() as session:
            self._upsert(session, IncidentRow, [row], keep=set())

    # --- claims -----------------------------------------------------------------------------------------

    def claim(self, name: str, *, by: str, now: datetime, lease: timedelta) -> bool:
        """
        Claim a name until ``release`` or the lease's end. False while somebody else holds it.

        The same claimant may claim again: a retried task has the same name.
        """
        with self._session() as session:
            row = session.get(ClaimRow, name, with_for_update=True)
            if row is None:
                # Two at once: the primary key lets one of them in.
                self._upsert(
                    session,
                    ClaimRow,
                    [{"name": name, "claimed_by": by, "claimed_until": now + lease}],
                    keep={"claimed_by", "claimed_until"},
                )
                row = session.get(ClaimRow, name, with_for_update=True)
            if row is None or (row.claimed_by != by and row.claimed_until > now):
                return False
            row.claimed_by, row.claimed_until = by, now + lease
            return True

    def release(self, name: str, *, by: str) -> None:
        """End our own claim; somebody else's stays."""
        with self._session() as session:
            row = session.get(ClaimRow, name)
            if row is not None and row.claimed_by == by:
                session.delete(row)

    # --- actions ----------------------------------------------------------------------------------------

    def record_actions(self, batch: ActionBatch, *, run_id: str, now: datetime) -> None:
        rows = [
            {
                "control": action.control,
                "observable": action.observable.key,
                "verb": action.verb.value,
                "outcome": action.outcome.value,
                "detail": action.detail,
                "proof": dict(action.proof),
                "expires_at": action.expires_at,
                "run_id": run_id,
                "updated_at": now,
            }
            for action in batch.actions
        ]
        if rows:
            with self._session() as session:
                self._upsert(session, ActionRow, rows, keep=set())

    def actions(self, control: str | None = None) -> list[ActionRow]:
        query = select(ActionRow).order_by(ActionRow.control, ActionRow.observable)
        if control:
            query = query.where(ActionRow.control == control)
        with Session(self.engine, expire_on_commit=False) as session:
            return list(session.scalars(query))

    def cancel_protected(self, gate: Gate, *, run_id: str, now: datetime) -> list[tuple[ActionRow, Hit]]:
        """
        Mark what is in force although the gate has come to protect it. Each is given once: it is then ``cancelled``,
        until a person or the control says otherwise.
        """
        found: list[tuple[ActionRow, Hit]] = []
        in_force = select(ActionRow).where(ActionRow.outcome.in_(sorted(IN_FORCE)))
        with self._session() as session:
            for row in session.scalars(in_force.order_by(ActionRow.control, ActionRow.observable)):
                if row.expires_at is not None and row.expires_at <= now:
                    continue
                observable = Observable.of_key(row.observable)
                if observable is not None and (hit := gate.check(observable)):
                    row.outcome, row.detail = Outcome.CANCELLED, f"was {row.outcome}; {hit.reason}"
                    row.run_id, row.updated_at = run_id, now
                    found.append((row, hit))
            session.flush()
            session.expunge_all()
        return found

    # --- verdicts ---------------------------------------------------------------------------------------

    def record_verdicts(
        self,
        judgements: Sequence[Judgement],
        *,
        policy: Policy,
        minimum_severity: Severity | None,
        run_id: str,
        now: datetime,
    ) -> None:
        """Add a run's verdicts to the history. The same ones again, as by a retried task, add nothing."""
        rows = []
        for judgement in judgements:
            inputs, key = judgement.inputs.to_json(), judgement.inputs.observable.key
            plan = judgement.plan.to_json() if judgement.plan else None
            inputs_digest = digest(inputs)
            identity = [run_id, key, inputs_digest, policy.digest, minimum_severity, judgement.outcome, plan]
            rows.append(
                {
                    "id": digest(identity),
                    "run_id": run_id,
                    "observable": key,
                    "last_seen_at": judgement.inputs.observed.last_seen_at,
                    "decided_at": now,
                    "policy_digest": policy.digest,
                    "inputs_digest": inputs_digest,
                    "minimum_severity": minimum_severity.value if minimum_severity else None,
                    "standing": judgement.verdict.standing.value,
                    "confidence": judgement.verdict.confidence,
                    "outcome": judgement.outcome,
                    "reasons": list(judgement.verdict.reasons),
                    "inputs": inputs,
                    "plan": plan,
                }
            )
        if not rows:
            return
        known = {"digest": policy.digest, "document": policy.document, "first_used_at": now}
        with self._session() as session:
            self._upsert(session, PolicyRow, [known], keep=set(known))
            self._upsert(session, VerdictRow, rows, keep=set(rows[0]))

    def history(
        self, observables: Sequence[Observable], *, since: datetime, before: datetime, known_before: datetime
    ) -> dict[str, History]:
        """
        What was decided about these over earlier findings, by observable key; only of those that have a history.

        :param before: event time: the first sighting of the case at hand. So a window that is decided again, by a
            retried task or another run, does not meet its own verdicts
        :param known_before: clock time: when the run began. So a retried task reads what its first try read,
            whatever other runs have added meanwhile
        """
        found: dict[str, dict[str, Any]] = {}
        counted = (VerdictRow.observable, func.count(VerdictRow.id), func.max(VerdictRow.last_seen_at))
        acted = select(ActionRow.observable).where(
            ActionRow.observable == VerdictRow.observable,
            ActionRow.outcome.in_([Outcome.BLOCKED.value, Outcome.DETECT_ONLY.value]),
        )
        kinds = {
            "malicious": VerdictRow.standing == Standing.MALICIOUS.value,
            "benign": VerdictRow.standing == Standing.BENIGN.value,
            # Decided (what was held may have been approved), and a control is known to have followed: a plan alone
            # is nobody's block.
            "blocked": VerdictRow.outcome.in_([ACT, HOLD]) & acted.exists(),
        }
        with self._session() as session:
            for part in chunks(sorted({o.key for o in observables})):
                for kind, condition in kinds.items():
                    query = (
                        select(*counted)
                        .where(
                            VerdictRow.observable.in_(part),
                            VerdictRow.last_seen_at >= since,
                            VerdictRow.last_seen_at < before,
                            VerdictRow.decided_at < known_before,
                            condition,
                        )
                        .group_by(VerdictRow.observable)
                    )
                    for key, count, last_at in session.execute(query):
                        found.setdefault(key, {}).update({kind: count, f"{kind}_last_at": last_at})
        return {key: History(**values) for key, values in found.items()}

    def verdict(self, observable: Observable, *, at: datetime) -> VerdictRow | None:
        """The last verdict about an observable that had been made at that time."""
        query = (
            select(VerdictRow)
            .where(VerdictRow.observable == observable.key, VerdictRow.decided_at <= at)
            .order_by(VerdictRow.decided_at.desc(), VerdictRow.id)
            .limit(1)
        )
        with Session(self.engine, expire_on_commit=False) as session:
            return session.scalars(query).first()

    def deciding_runs(self, *, since: datetime, until: datetime) -> list[str]:
        """The runs that decided in that time, in the order of their last decision."""
        last = func.max(VerdictRow.decided_at)
        query = (
            select(VerdictRow.run_id)
            .where(VerdictRow.decided_at >= since, VerdictRow.decided_at < until)
            .group_by(VerdictRow.run_id)
            .order_by(last, VerdictRow.run_id)
        )
        with self._session() as session:
            return list(session.scalars(query))

    def verdicts(self, run_id: str) -> list[VerdictRow]:
        """Every verdict of a run, in order of time: more than one about an observable where it was decided again."""
        query = (
            select(VerdictRow)
            .where(VerdictRow.run_id == run_id)
            .order_by(VerdictRow.decided_at, VerdictRow.observable, VerdictRow.id)
        )
        with Session(self.engine, expire_on_commit=False) as session:
            return list(session.scalars(query))

    def policy(self, policy_digest: str) -> dict[str, Any] | None:
        """The document of a policy by which verdicts were made."""
        with Session(self.engine) as session:
            row = session.get(PolicyRow, policy_digest)
            return row.document if row else None


def _key(account: Account) -> tuple[str, str, str]:
    return account.provider, account.key, account.name


def _last_known(now: datetime) -> Select[ReputationRow]:
    """Of each provider and observable the last answer that was known at that time."""
    later = aliased(ReputationRow)
    newer = select(later.known_at).where(
        later.provider == ReputationRow.provider,
        later.observable == ReputationRow.observable,
        later.known_at > ReputationRow.known_at,
        later.known_at <= now,
    )
    return select(ReputationRow).where(ReputationRow.known_at <= now, ~newer.exists())


@dataclass(frozen=True)
class _Left:
    calls: int
    whose: str
    again_at: datetime


def _left(
    quota: Quota, row: QuotaRow, before: QuotaRow | None, backfill: bool, live_share: float, now: datetime
) -> _Left:
    """What a quota has left in the period ``row``, and when it has more."""
    counted = [row]
    again_at = row.ends_at
    if quota.is_burst:
        if before and now < before.last_at + quota.period:
            counted.append(before)
            again_at = before.last_at + quota.period
        if row.used >= row.allowed:
            again_at = row.last_at + quota.period
    left = row.allowed - sum(one.used for one in counted)
    whose = str(replace(quota, calls=row.allowed))
    if backfill:
        part = backfills_part(row.allowed, live_share)
        share = part - sum(one.used_by_backfill for one in counted)
        if share < left:
            return _Left(share, f"the backfills' {part:,} of {whose} are", again_at)
    return _Left(left, f"{whose} are", again_at)


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": 60})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        # Several task processes write at once: readers must not block, writers must wait rather than fail.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA busy_timeout=60000")
        connection.isolation_level = None  # we begin transactions ourselves, below

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # IMMEDIATE: a transaction that reads first and writes later would otherwise die with "database is locked".
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


__all__ = ["HEAD", "MIGRATIONS", "Ledger", "SQLAlchemyError", "migrate"]
