"""Splunk in the workflow: the SIEM's watchlist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from include.soar.model import Action, Indicator, ObservableType, Outcome, Verb
from include.soar.vendor.errors import Unexpected, VendorError
from threat_response.stages.control import Control, Incidents, Ours, Result
from threat_response.vendors.splunk import api

if TYPE_CHECKING:
    from threat_response.vendors.splunk.hook import SplunkHook


@dataclass
class _Changes:
    """
    What the watchlist lacks.

    :param wanted: the documents to write, by key
    :param problems: why one that should be written cannot be
    :param stopped: what ended the writing early
    """

    wanted: dict[str, api.Document] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    stopped: VendorError | None = None


class SplunkWatchOperator(Control):
    """
    Put indicators of every type on a watchlist in the KV store. See :class:`Control`.

    A document that is there already is merged with: it gains incidents and time, and never loses any.
    """

    vendor = api.VENDOR
    verb = Verb.WATCH
    types = frozenset(ObservableType)
    gated = False  # being watched harms nobody

    def preview(self, hook: SplunkHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
        where = hook.place.collection
        if not hook.has_collection():
            return Result([self.action(i, Outcome.PLANNED, f"{where} would be created and filled") for i in indicators])
        held = hook.read(i.observable.key for i in indicators)
        changes = _compare(held, indicators, incidents)
        actions = []
        for indicator in indicators:
            key = indicator.observable.key
            if key not in held:
                would = f"would be added to {where}"
            else:
                would = f"is in {where} and would be updated" if key in changes.wanted else f"is in {where} already"
            actions.append(self.action(indicator, Outcome.PLANNED, would))
        return Result(actions)

    def ensure(self, hook: SplunkHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
        keys = [i.observable.key for i in indicators]
        if not hook.has_collection():
            hook.create_collection()
        held = hook.read(keys)
        changes = _compare(held, indicators, incidents)
        if changes.wanted:
            refused, changes.stopped = hook.save(list(changes.wanted.values()))
            changes.problems |= {key: f"refused: {reason}" for key, reason in refused.items()}
            held = hook.read(keys)
        return Result([self._read_back(hook, i, held, changes) for i in indicators], changes.stopped)

    def lift(self, hook: SplunkHook, actions: Sequence[Action]) -> Result:
        held = hook.read(action.observable.key for action in actions) if hook.has_collection() else {}
        done = Result()
        doomed: list[Action] = []
        for action in actions:
            document = held.get(action.observable.key)
            if document is None:
                done.actions.append(self.lifted(action, Outcome.GONE, f"not in {hook.place.collection}"))
            elif why := api.kept_because(document, action):
                done.actions.append(self.lifted(action, Outcome.NOT_OURS, why))
            else:
                doomed.append(action)
        if not doomed:
            return done
        keys = [action.observable.key for action in doomed]
        refused, done.error = hook.delete(keys)
        held = hook.read(keys)
        for key, action in zip(keys, doomed, strict=True):
            if key in held:
                why = refused.get(key) or str(done.error or "deleted, but found when read back")
                done.actions.append(self.lifted(action, Outcome.FAILED, f"not deleted: {why}"))
            else:
                detail = f"deleted from {hook.place.collection}"
                done.actions.append(self.lifted(action, Outcome.LIFTED, detail, changed=True))
        return done

    def _read_back(
        self, hook: SplunkHook, indicator: Indicator, held: dict[str, api.Document], changes: _Changes
    ) -> Action:
        key = indicator.observable.key
        document = held.get(key)
        proof: dict[str, str | int | None] = {"collection": hook.place.collection, "key": key}
        problem = changes.problems.get(key)
        if problem is None and document is None:
            # Somebody may remove it at any time, also between our look and this one.
            missing = "written, but not there" if key in changes.wanted else "removed by somebody"
            problem = str(changes.stopped or f"{missing} when it was read back")
        elif problem is None and key in changes.wanted and document != changes.wanted[key]:
            problem = str(changes.stopped or "written, but reads back as something else")
        if document is None or problem is not None:
            return self.action(indicator, Outcome.FAILED, str(problem), proof=proof)
        if not api.ours(document):
            detail = "on the list by somebody else's document, which was left alone"
            return self.action(indicator, Outcome.WATCHED, detail, expires_at=None, proof=proof)
        return self.action(
            indicator,
            Outcome.WATCHED,
            f"in {hook.place.collection}",
            changed=key in changes.wanted,
            expires_at=api.ends_at(document),
            proof=proof,
        )


def _compare(held: dict[str, api.Document], indicators: Sequence[Indicator], incidents: Incidents) -> _Changes:
    changes = _Changes()
    for indicator in indicators:
        key = indicator.observable.key
        document = api.document_for(indicator, incidents.get(key, []))
        old = held.get(key)
        if old is not None and not api.ours(old):
            continue
        try:
            merged = document if old is None else api.merge(old, document)
        except Unexpected as error:
            changes.problems[key] = str(error)
            continue
        if merged != old:
            changes.wanted[key] = merged
    return changes


#: What the registry takes.
WATCH = SplunkWatchOperator
