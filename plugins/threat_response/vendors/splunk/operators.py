"""Splunk in the workflow: the SIEM's watchlist."""

from __future__ import annotations

from collections.abc import Sequence

from include.soar.model import Action, Indicator, ObservableType, Outcome, Verb
from include.soar.vendor.errors import Unexpected, VendorError
from threat_response.stages.control import ControlOperator, Result
from threat_response.vendors.splunk import api
from threat_response.vendors.splunk.hook import SplunkHook


class SplunkWatchOperator(ControlOperator):
    """
    Put indicators of every type on a watchlist in the KV store. See :class:`ControlOperator`.

    A document that is there already is merged with: it gains incidents and time, and never loses any.
    """

    control = api.VENDOR
    verb = Verb.WATCH
    types = frozenset(ObservableType)
    hook_class = SplunkHook
    gated = False  # being watched harms nobody

    def preview(self, hook: SplunkHook, indicators: Sequence[Indicator], incidents: dict[str, list[str]]) -> Result:
        where = hook.place.collection
        if not hook.has_collection():
            return Result([self.action(i, Outcome.PLANNED, f"{where} would be created and filled") for i in indicators])
        held = hook.read(i.observable.key for i in indicators)
        wanted, _ = self._compare(held, indicators, incidents)
        actions = []
        for indicator in indicators:
            key = indicator.observable.key
            if key not in held:
                would = f"would be added to {where}"
            else:
                would = f"is in {where} and would be updated" if key in wanted else f"is in {where} already"
            actions.append(self.action(indicator, Outcome.PLANNED, would))
        return Result(actions)

    def ensure(self, hook: SplunkHook, indicators: Sequence[Indicator], incidents: dict[str, list[str]]) -> Result:
        keys = [i.observable.key for i in indicators]
        if not hook.has_collection():
            hook.create_collection()
        held = hook.read(keys)
        wanted, problems = self._compare(held, indicators, incidents)
        stopped: VendorError | None = None
        if wanted:
            refused, stopped = hook.save(list(wanted.values()))
            problems |= {key: f"refused: {reason}" for key, reason in refused.items()}
            held = hook.read(keys)
        return Result([self._said(hook, i, held, wanted, problems, stopped) for i in indicators], stopped)

    @staticmethod
    def _compare(
        held: dict[str, api.Document], indicators: Sequence[Indicator], incidents: dict[str, list[str]]
    ) -> tuple[dict[str, api.Document], dict[str, str]]:
        """The documents to write, and why one that should be cannot be."""
        wanted: dict[str, api.Document] = {}
        problems: dict[str, str] = {}
        for indicator in indicators:
            key = indicator.observable.key
            document = api.document_for(indicator, incidents.get(key, []))
            old = held.get(key)
            if old is not None and not api.ours(old):
                continue
            try:
                merged = document if old is None else api.merge(old, document)
            except Unexpected as error:
                problems[key] = str(error)
                continue
            if merged != old:
                wanted[key] = merged
        return wanted, problems

    def _said(
        self,
        hook: SplunkHook,
        indicator: Indicator,
        held: dict[str, api.Document],
        wanted: dict[str, api.Document],
        problems: dict[str, str],
        stopped: VendorError | None,
    ) -> Action:
        """What the document reads back as."""
        key = indicator.observable.key
        document = held.get(key)
        proof: dict[str, str | int | None] = {"collection": hook.place.collection, "key": key}
        problem = problems.get(key)
        if problem is None and key in wanted and document != wanted[key]:
            problem = str(stopped or "written, but reads back as something else")
        if problem is not None:
            return self.action(indicator, Outcome.FAILED, problem, expires_at=None, proof=proof)
        if document is not None and not api.ours(document):
            detail = "on the list by somebody else's document, which was left alone"
            return self.action(indicator, Outcome.WATCHED, detail, expires_at=None, proof=proof)
        return self.action(
            indicator,
            Outcome.WATCHED,
            f"in {hook.place.collection}",
            changed=key in wanted,
            expires_at=api.ends_at(held[key]),
            proof=proof,
        )


#: What the registry takes.
WATCH = SplunkWatchOperator
