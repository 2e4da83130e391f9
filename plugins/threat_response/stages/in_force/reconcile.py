"""What has ended is removed, and what a control holds is brought in line with the ledger. One task for each control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context

from include.soar.in_force.converge import SETTLES, Fate, Move, converge, expired_only
from include.soar.model import Action, ActionBatch, Observable, Outcome, Reached, Verb
from include.soar.vendor.errors import Rejected, VendorError, one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.base import StageOperator
from threat_response.stages.in_force.at_control import AtControl, believed, is_off, protected_by, seen

if TYPE_CHECKING:
    from threat_response.stages.control import Confirm, Control, Survey

#: What an entry that is active counts as, by what its control does.
ACTIVE = {Verb.DENY: Outcome.BLOCKED, Verb.CONTAIN: Outcome.DETECT_ONLY, Verb.WATCH: Outcome.WATCHED}


class Reconcile(StageOperator):
    """
    Compare what one control holds of ours with what the ledger says, and bring the two together: what has ended or
    became protected is removed and reads back as absent, what the ledger has lost is taken up again with its end, and
    what a person removed or changed is left to that person and told in the incident. What is not ours is never touched.

    Gives an ``ActionBatch`` of what changed. Idempotent; a try that finds nothing to do gives what an earlier try of
    the same run has done, so that the incidents are told of it in any case.

    :param control: makes the control's operator
    :param confirm: makes the operator that asks whether a pending entry is in force; None: the control has none
    :param only_expired: end what has ended, and nothing else
    """

    def __init__(
        self,
        *,
        control: Callable[[], Control],
        confirm: Callable[[], Confirm] | None = None,
        only_expired: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.control = control
        self.confirm = confirm
        self.only_expired = only_expired

    def execute(self, context: Context) -> dict[str, Any]:
        settings.skip_if_absent(self.conn_id, f"control {self.vendor}")
        if is_off(self.vendor):
            why = "nothing is written there, and what it holds of ours ends by itself or is lifted by hand"
            settings.skip(f"{self.vendor} is switched off in the policy (response.switched_off): {why}")
        run, ledger = Run.of(context), settings.ledger()
        try:
            at = AtControl(self.control(), ledger, run.name, run.claimant)
            if not run.may_write(blocks=True):
                return self._plan(at)
            before = done_by(at, run.started_at)
            with at.alone():
                actions, errors = self._carry_out(at)
        finally:
            ledger.close()
        self._tell(actions)
        now_known = {(a.observable, a.outcome) for a in actions}
        actions += [a for a in before if (a.observable, a.outcome) not in now_known]
        batch = ActionBatch(control=self.vendor, actions=tuple(actions))
        return self.finish(context, batch.to_json(), errors)

    # --- what there is to do --------------------------------------------------------------------------------

    def _moves(self, at: AtControl) -> tuple[Survey, dict[str, Move]]:
        survey = at.survey([entry.observable for entry in at.entries.values()])
        ours = [key for key, one in survey.held.items() if one.is_ours]
        now = settings.now()
        moves = converge(believed(at, ours), seen(survey), protected_by(at.control, now), now)
        return survey, expired_only(moves) if self.only_expired else moves

    def _plan(self, at: AtControl) -> dict[str, Any]:
        survey, moves = self._moves(at)
        actions = []
        for key, move in moves.items():
            self.log.info("%s %s: would be %s; %s", self.vendor, one_line(key), move.fate.value, one_line(move.why))
            action = self._known(at, survey, key)
            if action is not None and move.changes:
                actions.append(action.model_copy(update={"outcome": Outcome.PLANNED, "detail": move.why}))
        return ActionBatch(control=self.vendor, actions=tuple(actions)).to_json()

    @staticmethod
    def _known(at: AtControl, survey: Survey, key: str) -> Action | None:
        held = survey.held.get(key)
        observable = held.observable if held is not None else Observable.of_key(key)
        return at.known(observable, held) if observable is not None else None

    # --- and the doing --------------------------------------------------------------------------------------

    def _carry_out(self, at: AtControl) -> tuple[list[Action], list[VendorError]]:
        survey, moves = self._moves(at)
        chosen: dict[Fate, list[tuple[Move, Action]]] = {}
        for key, move in moves.items():
            if move.fate is Fate.STRAY:
                self.log.warning("%s %s: left alone; %s", self.vendor, one_line(key), one_line(move.why))
            action = self._known(at, survey, key)
            if action is not None:
                chosen.setdefault(move.fate, []).append((move, action))
        actions, errors = self._lift(at, chosen.get(Fate.LIFT, []))
        actions += self._leave_to_person(at, chosen.get(Fate.LEFT_TO_PERSON, []))
        actions += self._adopt(at, survey, chosen.get(Fate.ADOPT, []))
        kept = [action for _, action in chosen.get(Fate.KEEP, []) if action.outcome is Outcome.PENDING]
        confirmed = self._confirm(at, kept)
        self.log.info(
            "%s: %d entries in force or on their way; %s",
            self.vendor,
            len(at.ours),
            ", ".join(f"{len(some)} {fate.value}" for fate, some in sorted(chosen.items()))
            or "nothing of ours is there",
        )
        errors += [
            Rejected(self.vendor, a.verb.value, f"{one_line(a.observable.key)}: {a.detail}")
            for a in (*actions, *confirmed)
            if a.outcome is Outcome.FAILED and not errors
        ]
        return [*actions, *confirmed], errors

    def _lift(self, at: AtControl, doomed: Sequence[tuple[Move, Action]]) -> tuple[list[Action], list[VendorError]]:
        lifted: list[Action] = []
        errors: list[VendorError] = []

        def why(one: tuple[Move, Action]) -> tuple[str, str]:
            return one[0].by, one[0].reason or one[0].why

        for (by, reason), some in groupby(sorted(doomed, key=why), key=why):
            if errors:
                break  # what stopped the one removal stops the next
            done, error = at.lift([action for _, action in some], by=by, reason=reason)
            lifted += [a.model_copy(update={"detail": f"{reason}; {a.detail}" if reason else a.detail}) for a in done]
            if error is not None:
                errors.append(error)
        return lifted, errors

    def _leave_to_person(self, at: AtControl, altered: Sequence[tuple[Move, Action]]) -> list[Action]:
        left = []
        for move, action in altered:
            at.ledger.actions.removed_by_person(self.vendor, action.observable.key, at=settings.now(), detail=move.why)
            why = f"{move.why}; it is theirs now, and not written again until a new sighting"
            left.append(at.control.lifted(action, Outcome.NOT_OURS, why, expires_at=move.expires_at))
        return left

    def _adopt(self, at: AtControl, survey: Survey, found: Sequence[tuple[Move, Action]]) -> list[Action]:
        """
        Write down what is there. What is not in force yet is made to be: its item is there, and was decided on.

        :return: what could not be brought into force. Else nobody is told: it is as its incident says already
        """
        adopted, waiting = [], []
        for move, action in found:
            reached = survey.held[action.observable.key].reached or Reached.LISTED
            outcome = ACTIVE[at.control.verb] if reached is Reached.ACTIVE else Outcome.PENDING
            fields = {"verb": at.control.verb, "outcome": outcome, "detail": move.why, "reached": reached}
            ends = survey.held[action.observable.key].expires_at
            action = action.model_copy(update=fields | {"expires_at": ends})
            adopted.append(action)
            if outcome is Outcome.PENDING and ends is not None:
                waiting.append(action)
        at.record(adopted, reason="found at the control by our mark")
        if not waiting:
            return []
        done, _ = at.ensure_again(waiting)
        return [action for action in done if action.outcome is Outcome.FAILED]

    def _confirm(self, at: AtControl, pending: Sequence[Action]) -> list[Action]:
        """Those whose proof has changed: in force by now, or not on their way any more."""
        if not pending or self.confirm is None:
            return []
        confirm = self.confirm()
        told = confirm.confirm(confirm.hook(writes_allowed=False), pending)
        changed = [action for action in told if action.outcome is not Outcome.PENDING]
        at.record(changed, reason="looked up again")
        return [*changed, *self._hurry(at, [action for action in told if action.outcome is Outcome.PENDING])]

    @staticmethod
    def _hurry(at: AtControl, pending: Sequence[Action]) -> list[Action]:
        """
        What has been on its way for longer than any task waits is written again, as nobody may have asked for it to be
        brought into force: the task that was to do so gave up.

        :return: what is in force by that, and what cannot be
        """
        now = settings.now()
        late = [action for action in pending if now - at.entries[action.observable.key].since >= SETTLES]
        done, _ = at.ensure_again(late) if late else ([], None)
        return [action for action in done if action.outcome is not Outcome.PENDING]

    def _tell(self, actions: Sequence[Action]) -> None:
        for action in actions:
            message = "%s %s: %s; %s"
            told = self.log.warning if action.outcome in (Outcome.FAILED, Outcome.NOT_OURS) else self.log.info
            told(message, self.vendor, one_line(action.observable.key), action.outcome.value, one_line(action.detail))


def done_by(at: AtControl, since: datetime | None) -> list[Action]:
    """
    What earlier tries of this run have ended at the control, as the ledger's log has it.

    :param since: when the run began
    """
    found: dict[str, Action] = {}
    for event in at.ledger.actions.events(control=at.vendor, since=since) if since else ():
        observable = Observable.of_key(event.observable)
        if event.run_id != at.run_id or observable is None or event.outcome not in _ENDINGS:
            continue
        if event.verb == Verb.LIFT and event.kind != "intended":
            found[event.observable] = Action(
                control=at.vendor,
                verb=Verb.LIFT,
                observable=observable,
                outcome=Outcome(event.outcome),
                detail=event.detail,
                changed=event.changed,
                expires_at=event.expires_at,
                proof=dict(event.proof),
                rung=event.rung,
                reached=event.reached,
            )
    return list(found.values())


_ENDINGS = frozenset(o.value for o in (Outcome.LIFTED, Outcome.GONE, Outcome.PENDING, Outcome.NOT_OURS))
