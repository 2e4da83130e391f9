"""Akamai Client Lists in the workflow: the WAF's control, and the sensor that waits for the network."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING

from include.soar.model import Action, Indicator, Observable, ObservableType, Outcome, Reached, Role, Verb
from include.soar.vendor.errors import Rejected, Unavailable, VendorError
from threat_response.runtime import settings
from threat_response.stages.control import (
    Confirm,
    Control,
    Held,
    Incidents,
    Ours,
    Result,
    Survey,
    decided_by_a_person,
)
from threat_response.vendors.akamai_client_lists import api, items

if TYPE_CHECKING:
    from threat_response.vendors.akamai_client_lists.hook import AkamaiClientListsHook

#: The status of a refusal that passes.
CONFLICT = 409

#: An action, but for what is only known later: outcome, detail, proof.
PartialAction = Callable[..., Action]


class AkamaiClientListsBlockOperator(Control):
    """
    Put attackers' addresses on a client list and activate it. See :class:`Control`.

    ``blocked`` means that the network enforces a version of the list that holds the address. Whether a security
    policy refers to the list is not seen from here (README). An item that is not ours is left as it is.
    """

    vendor = api.VENDOR
    verb = Verb.DENY
    types = frozenset({ObservableType.IPV4, ObservableType.IPV6})

    def wants(self, indicator: Indicator) -> bool:
        # A WAF sees who calls our APIs. An address that our clients call never comes by there.
        return super().wants(indicator) and Role.ATTACKER in indicator.roles

    def survey(self, hook: AkamaiClientListsHook, ours: Ours, now: datetime, also: Iterable[Observable] = ()) -> Survey:
        client_list = hook.read_list()
        seen = _Seen(hook, client_list, ())
        known = _of_this_list(hook, ours)
        held: dict[str, Held] = {}
        for observable, item in seen.holdings.ours().items():
            held[observable.key] = _held(observable, item, seen, now, known)
        for observable in (*also, *filter(None, map(Observable.of_key, ours))):
            if observable.type in self.types and observable.key not in held:
                other, _ = seen.holdings.holding(ipaddress.ip_address(observable.value), now)
                if other is not None:
                    held[observable.key] = _held(observable, other, seen, now, known)
        return Survey(
            held,
            size=client_list.itemsCount,
            capacity=api.MAXIMUM_ITEMS,
            others_changes=seen.holdings.changes_of_others(_base(hook, client_list, seen.state)),
            version=client_list.version,
            place=client_list.listId,
        )

    def preview(
        self, hook: AkamaiClientListsHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours
    ) -> Result:
        changes = self._changes(hook, hook.read_list(), indicators, incidents, ours)
        prolonged = {entry["value"] for entry in changes.update}
        actions = []
        for indicator in indicators:
            item = changes.held.get(indicator.observable)
            ends: datetime | None = items.ends_at(indicator)
            if why := changes.by_person.get(indicator.observable):
                actions.append(self.by_a_person(indicator, why))
                continue
            if indicator.observable in changes.no_room:
                actions.append(self._missing(indicator, True, {}, None))
                continue
            if item is None:
                would = f"would be appended to {hook.list_id} and activated in {hook.network}"
            elif item.value in prolonged:
                would = f"is in {hook.list_id} already and would be prolonged"
            else:
                would, ends = f"is in {hook.list_id} already", item.expirationDate
            writes = item is None or item.value in prolonged
            actions.append(self.action(indicator, Outcome.PLANNED, would, changed=writes, expires_at=ends))
        return Result(actions)

    def ensure(
        self, hook: AkamaiClientListsHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours
    ) -> Result:
        client_list = hook.read_list()
        changes = self._changes(hook, client_list, indicators, incidents, ours)
        written = _Written(values=changes.written)
        if rows := changes.rows():
            written.base = _base(hook, client_list, hook.state(client_list))
            written.stopped = _refused(items.Holdings(client_list.items or ()).changes_of_others(written.base))
            if written.stopped is None:
                swept = [_ended(observable, item, hook) for observable, item in changes.delete.items()]
                self.intend([*(i for i in indicators if i.observable.value in changes.written), *swept])
                written.refused, written.stopped = hook.write_items(rows)
                client_list = hook.read_list()
        seen = _Seen(hook, client_list, changes.written - set(written.refused))
        done = Result(error=written.stopped, swept=_swept(changes, seen, written))
        waiting: list[PartialAction] = []
        for indicator in indicators:
            if why := changes.by_person.get(indicator.observable):
                done.actions.append(self.by_a_person(indicator, why))
            elif isinstance(known := self._look(indicator, changes, seen, written), Action):
                done.actions.append(known)
            else:
                waiting.append(known)
        if waiting:
            self._activate(seen, waiting, done, written.base)
        return done

    def _changes(
        self,
        hook: AkamaiClientListsHook,
        client_list: api.ClientList,
        indicators: Sequence[Indicator],
        incidents: Incidents,
        ours: Ours,
    ) -> items.Changes:
        now, known = settings.now(), _of_this_list(hook, ours)

        def decided(indicator: Indicator, altered: str | None) -> str | None:
            return decided_by_a_person(indicator, known.get(indicator.observable.key), now, altered=altered)

        ends = {key: one.ends for key, one in known.items()}
        return items.changes_for(client_list, indicators, incidents, now, decided=decided, ends=ends)

    def _look(
        self, indicator: Indicator, changes: items.Changes, seen: _Seen, written: _Written
    ) -> Action | PartialAction:
        """What the list and the network have of it now; not yet an action where an activation must bring it."""
        item, is_ours = seen.holdings.holding(_address(indicator), settings.now())
        if item is None:
            full = indicator.observable in changes.no_room
            return self._missing(indicator, full, written.refused, written.stopped)
        action_of = partial(
            self.action,
            indicator,
            changed=not {item.value, indicator.observable.value}.isdisjoint(seen.written),
            expires_at=item.expirationDate,
        )
        if not is_ours:
            return _someone_elses(action_of, item, seen)
        # A refusal alone is no failure: an overlapping run may have written the very item meanwhile.
        if problem := _too_short(indicator, item, written.refused.get(item.value) or written.stopped):
            return action_of(Outcome.FAILED, problem, changed=False)
        return _known(action_of, item, seen) or action_of

    def lift(self, hook: AkamaiClientListsHook, actions: Sequence[Action]) -> Result:
        client_list = hook.read_list()
        holdings = items.Holdings(client_list.items or ())
        done = Result()
        #: Items that are not in the list, each with whether this call removed it.
        absent: list[tuple[Action, bool]] = []
        doomed: dict[str, Action] = {}
        for action in actions:
            item = holdings.exactly(_address(action)) if self._takes(action) else None
            if item is None:
                absent.append((action, False))
            elif why := items.kept_because(item, action):
                done.actions.append(self.lifted(action, Outcome.NOT_OURS, why))
            else:
                doomed[item.value] = action
        refused: dict[str, str] = {}
        base: items.Holdings | None = None
        if doomed:
            base = _base(hook, client_list, hook.state(client_list))
            done.error = _refused(holdings.changes_of_others(base))
            if done.error is None:
                self.intend(doomed.values())
                refused, done.error = hook.write_items([("delete", {"value": value}) for value in doomed])
                client_list = hook.read_list()
        still_there = {item.value for item in client_list.items or ()}
        for value, action in doomed.items():
            if value in still_there:
                why = refused.get(value) or str(done.error or "removed, but in the list when it was read back")
                done.actions.append(self.lifted(action, Outcome.FAILED, f"not removed: {why}"))
            else:
                absent.append((action, True))
        if absent:
            self._until_enforced(_Seen(hook, client_list, ()), absent, done, base)
        return done

    def _takes(self, action: Action) -> bool:
        return action.observable.type in self.types

    def _until_enforced(
        self, seen: _Seen, absent: Sequence[tuple[Action, bool]], done: Result, base: items.Holdings | None
    ) -> None:
        """
        Have the network take over a list from which items were removed, now or by an earlier try. A list that is ahead
        of the network by other people's changes only is left to them: what the network holds is looked up.
        """
        state = seen.state
        there: list[items.Holdings] = []
        unknown = state.failed and state.active is None
        if state.status not in api.WITHDRAWN and not state.enforces(state.latest):
            there = [seen.hook.snapshot(version) for version in {state.active, state.pending} - {None}]
        waiting: list[PartialAction] = []
        for action, removed_now in absent:
            mine = self._takes(action)
            if mine and (unknown or any(version.exactly(_address(action)) for version in there)):
                waiting.append(partial(self.lifted, action, changed=removed_now))
                continue
            detail = f"not in {state.list_id}, nor where {state.network} enforces it"
            if mine and (other := seen.holdings.holding(_address(action), settings.now())[0]):
                detail += f"; the address is still held by the item {other.value}, which is not ours"
            outcome = Outcome.LIFTED if removed_now else Outcome.GONE
            done.actions.append(self.lifted(action, outcome, detail, changed=removed_now))
        if waiting:
            self._activate(seen, waiting, done, base)

    def _missing(
        self, indicator: Indicator, no_room: bool, refused: dict[str, str], stopped: VendorError | None
    ) -> Action:
        if no_room:
            why = f"the list is full: it holds at most {api.MAXIMUM_ITEMS} items"
        elif reason := refused.get(indicator.observable.value):
            why = f"refused: {reason}"
        else:
            why = str(stopped) if stopped else "written, but not in the list when it was read back"
        return self.action(indicator, Outcome.FAILED, why, expires_at=None)

    def _activate(self, seen: _Seen, waiting: list[PartialAction], done: Result, base: items.Holdings | None) -> None:
        """
        Have the network take over the list, once, and say of each waiting item where it stands.

        :param base: what the network had, or was about to have, before this try wrote; None: it wrote nothing
        """
        hook, state = seen.hook, seen.state
        wanted = state.latest
        outcome, reached = Outcome.PENDING, Reached.LISTED
        try:
            if done.error is not None:
                # Activating half of it now would only make the other half wait for that activation.
                raise done.error
            others = 0
            if state.pending is None:
                base = base if base is not None else _base(hook, seen.client_list, state)
                others = seen.holdings.changes_of_others(base)
                if refusal := _refused(others):
                    raise refusal
                if others:
                    self.log.warning(
                        "%s: the activation of %s takes along %s", self.vendor, hook.list_id, _many(others)
                    )
                if activation := hook.activate(f"Threat response: {len(waiting)} addresses"):
                    state = state.after(activation)
                else:
                    state = hook.state()
            if state.pending is None or state.pending < wanted:
                # Waiting here would hold a slot. Airflow tries again, and by then the older one is through.
                done.error = Unavailable(self.vendor, "activate", "an activation is pending; ours must follow it")
            detail = f"in version {wanted} of the list, {state.network} is {state.status}"
            detail += f"; the activation takes along {_many(others)}" if others else ""
            detail += f" ({done.error.reason})" if done.error else ""
        except VendorError as error:
            done.error = error
            # A conflict passes, and the task is tried again.
            outcome = Outcome.PENDING if error.status == CONFLICT else Outcome.FAILED
            state = replace(state, activation_id=None)
            detail = f"in version {wanted} of the list, but not known to be activated: {error}"
        proof = _proof(state, wanted)
        done.actions += [action_of(outcome, detail, proof=proof, reached=reached) for action_of in waiting]


class AkamaiClientListsActiveSensor(Confirm):
    """Wait until the network enforces the version that holds our items, or no longer does. See :class:`Confirm`."""

    vendor = api.VENDOR

    def confirm(self, hook: AkamaiClientListsHook, actions: Sequence[Action]) -> list[Action]:
        state = hook.state()
        return [self._confirm(action, state) for action in actions]

    @staticmethod
    def _confirm(action: Action, state: api.State) -> Action:
        version = action.proof.get("version")
        if isinstance(version, int) and state.enforces(version):
            return action.model_copy(
                update={
                    "outcome": Outcome.LIFTED if action.verb is Verb.LIFT else Outcome.BLOCKED,
                    "reached": Reached.GONE if action.verb is Verb.LIFT else _enforced(state),
                    "detail": _in_force(state),
                    "proof": {**action.proof, "active_version": state.active},
                }
            )
        if state.failed and not _precedes(state, action):
            # Nothing is on its way any more: to wait would only hide it.
            why = f"the activation of version {version} failed; the block task, run again, requests another"
            ends = action.expires_at if action.verb is Verb.LIFT else None
            return action.model_copy(update={"outcome": Outcome.FAILED, "detail": why, "expires_at": ends})
        if state.pending is None:
            why = f"{state.network} is {state.status} with version {state.active}, and nothing is pending"
        else:
            why = f"{state.network} is taking over version {state.pending}, and version {version} is wanted"
        return action.model_copy(update={"detail": why})


@dataclass
class _Seen:
    """
    The list and its network as read back.

    :param written: the values that this try has written
    """

    hook: AkamaiClientListsHook
    client_list: api.ClientList
    written: Collection[str]

    @cached_property
    def state(self) -> api.State:
        return self.hook.state(self.client_list)

    @cached_property
    def holdings(self) -> items.Holdings:
        return items.Holdings(self.client_list.items or ())

    @cached_property
    def enforced(self) -> items.Holdings:
        return self.hook.snapshot(self.state.active)

    def enforces(self, item: api.Item) -> bool:
        if item.value in self.written:
            # Its status may still be that of before the change.
            return self.state.enforces(self.state.latest)
        known = self.state.enforces_item(item)
        return self.enforced.has(item) if known is None else known

    def takes_over(self, item: api.Item) -> bool:
        """Whether the network is about to enforce it, with no need of another activation."""
        if item.value in self.written:
            return self.state.pending is not None and self.state.pending >= self.state.latest
        return self.state.takes_over(item)


@dataclass
class _Written:
    """
    What this try meant to write, and what came of it.

    :param base: what the network had, or was about to have, before it
    """

    values: set[str]
    refused: dict[str, str] = field(default_factory=dict)
    stopped: VendorError | None = None
    base: items.Holdings | None = None


def _ended(observable: Observable, item: api.Item, hook: AkamaiClientListsHook) -> Action:
    """An item of ours past its end, as an action to lift."""
    return Action(
        control=api.VENDOR,
        verb=Verb.LIFT,
        observable=observable,
        outcome=Outcome.EXPIRED,
        expires_at=item.expirationDate,
        proof={"list": hook.list_id, "network": hook.network},
    )


def _swept(changes: items.Changes, seen: _Seen, written: _Written) -> list[Action]:
    """Ours past their end that made room, as far as they read back as absent. The activation takes them along."""
    left = {item.value for item in seen.client_list.items or ()}
    detail = f"past its end, and removed from {seen.client_list.listId} to make room"
    return [
        Control.lifted(_ended(observable, item, seen.hook), Outcome.LIFTED, detail, changed=True)
        for observable, item in changes.delete.items()
        if item.value not in left and written.stopped is None
    ]


def _of_this_list(hook: AkamaiClientListsHook, ours: Ours) -> Ours:
    """What the ledger knows of this list; the connection may have named another one before."""
    return {key: known for key, known in ours.items() if known.proof.get("list") in (None, hook.list_id)}


def _held(observable: Observable, item: api.Item, seen: _Seen, now: datetime, ours: Ours) -> Held:
    known = ours.get(observable.key)
    enforced = seen.enforces(item)
    return Held(
        observable,
        item.expirationDate,
        item.ours,
        altered=items.altered(item, known.ends if known else items.ANY_END) if item.ours else "",
        ended=not item.in_force_at(now),
        reached=_enforced(seen.state) if enforced else Reached.LISTED,
        proof=_proof(seen.state, seen.state.active if enforced else seen.state.latest) | {"item": item.value},
    )


def _base(hook: AkamaiClientListsHook, client_list: api.ClientList, state: api.State) -> items.Holdings:
    """What the network has of the list, or is about to have: an activation brings what differs from it."""
    version = state.active if state.pending is None else state.pending
    if version is not None and version >= state.latest:
        return items.Holdings(client_list.items or ())
    return hook.snapshot(version)


def _many(others: int) -> str:
    return f"{others} change{'' if others == 1 else 's'} of other people"


def _refused(others: int) -> Rejected | None:
    """Why no activation may be requested, where the policy refuses to take others' changes along."""
    if not others or not settings.policy().response.refuse_others_changes:
        return None
    why = f"the activation would take along {_many(others)}, which the policy refuses (response.refuse_others_changes)"
    return Rejected(api.VENDOR, "activate", why)


def _enforced(state: api.State) -> Reached:
    return Reached.ACTIVE if state.network == "PRODUCTION" else Reached.STAGING


def _address(wanted: Action | Indicator) -> api.IPAddress:
    return ipaddress.ip_address(wanted.observable.value)


def _known(action_of: PartialAction, item: api.Item, seen: _Seen) -> Action | None:
    """The action of an item of ours that is in force or about to be; None: an activation must bring it."""
    state = seen.state
    if seen.enforces(item):
        # As the sensor has it: a try after one that died, and whose activation is through by now, tells the same.
        proof = _proof(state, state.active) | {"active_version": state.active}
        return action_of(Outcome.BLOCKED, _in_force(state), proof=proof, reached=_enforced(state))
    if seen.takes_over(item):
        detail = f"{state.network} is taking over version {state.pending} of the list"
        return action_of(Outcome.PENDING, detail, proof=_proof(state, state.pending))
    return None


def _in_force(state: api.State) -> str:
    return f"{state.network} enforces version {state.active} of the list"


def _too_short(indicator: Indicator, item: api.Item, why: object) -> str | None:
    if item.expirationDate is None or item.expirationDate >= items.ends_at(indicator):
        return None
    return f"could not be prolonged: {why}" if why else "was prolonged, but reads back with the old end"


def _precedes(state: api.State, action: Action) -> bool:
    """Whether the network still speaks of an activation that is older than the one requested for this action."""
    requested = action.proof.get("activation_id")
    return isinstance(requested, int) and state.activation_id is not None and state.activation_id < requested


def _someone_elses(action_of: PartialAction, item: api.Item, seen: _Seen) -> Action:
    state, enforced = seen.state, seen.enforces(item)
    action_of = partial(action_of, reached=None)  # nothing was asked of the control
    if isinstance(item, api.UnreadableItem):
        return action_of(Outcome.FAILED, f"the item {item.value} was left alone: {item.problem}")
    whose = f"held by the item {item.value}, which is not ours and was left alone"
    proof = _proof(state, state.active if enforced else state.latest)
    if not item.in_force_at(settings.now()):
        return action_of(Outcome.EXPIRED, f"{whose}; it has ended, and stands in the way of ours", proof=proof)
    if enforced:
        return action_of(Outcome.BLOCKED, f"{_in_force(state)}; {whose}", proof=proof)
    outcome = Outcome.FAILED if state.failed else Outcome.PENDING
    return action_of(outcome, f"{whose}; {state.network} does not enforce it yet ({state.status})", proof=proof)


def _proof(state: api.State, version: int | None) -> dict[str, str | int | None]:
    return {
        "list": state.list_id,
        "version": version,
        "network": state.network,
        "activation_id": state.activation_id,
    }


#: What the registry takes.
BLOCK = AkamaiClientListsBlockOperator
CONFIRM = AkamaiClientListsActiveSensor
