"""Splunk in the workflow: the SIEM's watchlist."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from include.soar.model import Action, Indicator, Observable, ObservableType, Outcome, Reached, Verb
from include.soar.vendor.errors import Rejected, Unauthorized, Unexpected, VendorError
from threat_response.runtime import settings
from threat_response.stages.control import (
    Control,
    Held,
    Incidents,
    Ours,
    Result,
    Survey,
    decided_by_a_person,
)
from threat_response.vendors.splunk import api

if TYPE_CHECKING:
    from include.soar.ledger.actions import KnownAction
    from threat_response.vendors.splunk.hook import SplunkHook

#: Why a document is left as a person has it; given None: it was removed.
Decided = Callable[[Indicator, api.Document | None], str | None]


@dataclass
class _Changes:
    """
    What the watchlist lacks.

    :param wanted: the documents to write, by key
    :param problems: why one that should be written cannot be
    :param by_person: why one is left as a person has it
    :param stopped: what ended the writing early
    """

    wanted: dict[str, api.Document] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    by_person: dict[str, str] = field(default_factory=dict)
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

    def survey(self, hook: SplunkHook, ours: Ours, now: datetime, also: Iterable[Observable] = ()) -> Survey:
        if not hook.has_collection():
            return Survey(place=hook.place.collection)
        documents = hook.ours()
        documents |= hook.read({o.key for o in also} | ours.keys() - documents.keys())
        held = {}
        for key, document in documents.items():
            if (observable := api.observable_of(document)) or (observable := _named(key, also)):
                ends = api.ends_at(document)
                known = _known(hook, ours, key)
                held[key] = Held(
                    observable,
                    ends,
                    api.ours(document),
                    altered=api.altered(document, known.ends if known else {None}) if api.ours(document) else "",
                    ended=ends is not None and ends <= now,
                    proof={"collection": hook.place.collection, "key": key},
                )
        return Survey(held, place=hook.place.collection)

    def preview(self, hook: SplunkHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
        where, done = hook.place.collection, Result()
        is_there = hook.has_collection()
        held = hook.read(i.observable.key for i in indicators) if is_there else {}
        changes = _compare(held, indicators, incidents, self._decided(hook, ours) if is_there else None)
        for indicator in indicators:
            key = indicator.observable.key
            ends: datetime | None = indicator.expires_at
            if why := changes.by_person.get(key):
                done.actions.append(self.by_a_person(indicator, why))
                continue
            if not is_there:
                would = f"{where} would be created and filled"
            elif key not in held:
                would = f"would be added to {where}"
            else:
                would = f"is in {where} and would be updated" if key in changes.wanted else f"is in {where} already"
                ends = api.ends_at(changes.wanted.get(key, held[key]))
            writes = key in changes.wanted
            done.actions.append(self.action(indicator, Outcome.PLANNED, would, changed=writes, expires_at=ends))
        return done

    def ensure(self, hook: SplunkHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours) -> Result:
        keys = [i.observable.key for i in indicators]
        decided: Decided | None = self._decided(hook, ours)
        if not hook.has_collection():
            decided = None  # nobody removed one item of what is not there at all
            hook.create_collection()
        held = hook.read(keys)
        changes = _compare(held, indicators, incidents, decided)
        if changes.wanted:
            self._make_visible(hook)
            self.intend(i for i in indicators if i.observable.key in changes.wanted)
            refused, changes.stopped = hook.save(list(changes.wanted.values()))
            changes.problems |= {key: f"refused: {reason}" for key, reason in refused.items()}
            held = hook.read(keys)
        return Result([self._read_back(hook, i, held, changes) for i in indicators], changes.stopped)

    def _decided(self, hook: SplunkHook, ours: Ours) -> Decided:
        now = settings.now()

        def decided(indicator: Indicator, document: api.Document | None) -> str | None:
            known = _known(hook, ours, indicator.observable.key)
            altered = None if document is None else api.altered(document, known.ends if known else {None})
            return decided_by_a_person(indicator, known, now, altered=altered)

        return decided

    def _make_visible(self, hook: SplunkHook) -> None:
        """Without the right to make a lookup definition the list is kept all the same; *Test connection* says so."""
        try:
            hook.ensure_lookup()
        except (Rejected, Unauthorized) as error:
            self.log.warning("No search sees %s: no lookup definition could be made: %s", hook.place.collection, error)

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
        self.intend(doomed)
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
        if why := changes.by_person.get(key):
            return self.by_a_person(indicator, why)
        problem = changes.problems.get(key)
        if problem is None and document is None:
            # Somebody may remove it at any time, also between our look and this one.
            missing = "written, but not there" if key in changes.wanted else "removed by somebody"
            problem = str(changes.stopped or f"{missing} when it was read back")
        elif problem is None and key in changes.wanted and document != changes.wanted[key]:
            problem = str(changes.stopped or "written, but reads back as something else")
        if document is None or problem is not None:
            # What was written and reads back otherwise, or not at all, was accepted; what was refused was not.
            reached = Reached.ACCEPTED if key in changes.wanted and key not in changes.problems else None
            reached = Reached.INTENDED if reached and changes.stopped else reached
            return self.action(indicator, Outcome.FAILED, str(problem), proof=proof, reached=reached)
        if not api.ours(document):
            detail = "on the list by somebody else's document, which was left alone"
            return self.action(indicator, Outcome.WATCHED, detail, expires_at=None, proof=proof, reached=None)
        return self.action(
            indicator,
            Outcome.WATCHED,
            f"in {hook.place.collection}",
            changed=key in changes.wanted,
            expires_at=api.ends_at(document),
            proof=proof,
        )


def _compare(
    held: dict[str, api.Document], indicators: Sequence[Indicator], incidents: Incidents, decided: Decided | None
) -> _Changes:
    """:param decided: why a document is left as a person has it; None: no person can have decided"""
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
        if merged == old:
            continue
        if decided and (why := decided(indicator, old)):
            changes.by_person[key] = why
        else:
            changes.wanted[key] = merged
    return changes


def _known(hook: SplunkHook, ours: Ours, key: str) -> KnownAction | None:
    """What the ledger knows of this collection; the connection may have named another one before."""
    known = ours.get(key)
    return known if known and known.proof.get("collection") in (None, hook.place.collection) else None


def _named(key: str, also: Iterable[Observable]) -> Observable | None:
    """What a document of another shape is about: what was asked, or what its key says."""
    if found := next((observable for observable in also if observable.key == key), None):
        return found
    try:
        return Observable.of_key(key)
    except ValueError:
        return None


#: What the registry takes.
WATCH = SplunkWatchOperator
