"""What the questions of a backfill would cost, before it is started: ``make plan-enrichment FROM=… TO=…``.

Reads the sources as the backfill's tasks would, through the connections of this Airflow, and counts the questions with
the very code that asks them in a run. It asks no provider, and writes no window, claim, answer or page.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from include.soar.enrich.forecast import ASKED, STORED, UNKNOWN, BackfillPlan, Cost, Forecast
from include.soar.extract.case import case_of
from include.soar.ledger import Ledger
from include.soar.model import CaseBatch, FetchBatch, Finding, Observable, Severity, Window, digest
from include.soar.vendor.errors import VendorError
from threat_response import registry
from threat_response.runtime import settings
from threat_response.stages.enrich import Enrich, meter_of
from threat_response.stages.fetch import Fetch
from threat_response.transport.asking import Meter, count_calls

HOUR = timedelta(hours=1)
#: Read at a time from a source: fewer calls than by the hour, and it fits into memory.
STRETCH = timedelta(days=1)


class CannotPlan(ValueError):
    """There is no plan; the message says why."""


def plan(
    start_at: datetime,
    end_at: datetime,
    *,
    minimum_severity: Severity | None = None,
    frozen: bool = False,
    open_ledger: Callable[[], Ledger] = settings.ledger,
) -> BackfillPlan:
    """
    :param start_at: where the first hourly window begins
    :param end_at: where the last one ends
    :param frozen: as the runs' parameter ``answers``: no provider is asked, and what is known is counted
    :raises CannotPlan: no source can be read
    :raises VendorError: a source does not answer
    """
    for name, instant in (("from", start_at), ("to", end_at)):
        if (instant.minute, instant.second, instant.microsecond) != (0, 0, 0):
            raise CannotPlan(f"--{name}: {instant.isoformat()} is no full hour: a window begins and ends with one")
    if start_at >= end_at:
        raise CannotPlan("--to is not after --from")
    ledger, now = open_ledger(), settings.now()
    findings, remarks = _read_sources(start_at, end_at, ledger, now)
    tallies = [
        _Tally(Enrich(task_id=one.name, vendor=one.name, case=None), Forecast(one.name), frozen=frozen)
        for one in registry.providers(settings.policy().enrichment.providers)
    ]
    connected = [one for one in tallies if one.is_connected]
    seen: set[Observable] = set()
    floor = minimum_severity or settings.policy().priority.minimum_severity
    for case in cases(findings, start_at, end_at):
        seen.update(item.observable for item in case.observed)
        high = {f.uid for f in case.findings if f.severity.rank >= floor.rank}
        of_high = {
            item.observable for item in case.observed if high.intersection(s.finding_uid for s in item.sightings)
        }
        for tally in connected:
            tally.add(case, of_high, ledger=ledger, now=now, minimum_severity=minimum_severity)
    for tally in connected:
        tally.finish(ledger, now)
    return BackfillPlan(
        start_at,
        end_at,
        Counter({source: sum(map(len, by_hour.values())) for source, by_hour in findings.items()}),
        len(seen),
        tuple(tally.forecast for tally in tallies),
        tuple(remarks),
    )


def _read_sources(
    start_at: datetime, end_at: datetime, ledger: Ledger, now: datetime
) -> tuple[dict[str, dict[datetime, list[Finding]]], list[str]]:
    """
    The findings of each source by the start of their window, and what a person must know about the reading.

    :raises CannotPlan: no source has a connection
    """
    findings: dict[str, dict[datetime, list[Finding]]] = {}
    remarks = []
    for source, read in registry.operators("fetch").items():
        operator = read(task_id=source)
        if not settings.connection_exists(operator.conn_id):
            remarks.append(f"Source {source} is left out: there is no connection {operator.conn_id!r}.")
            continue
        if now < end_at + operator.settled_after:
            remarks.append(f"Source {source} is not complete yet for the end of this time: there may be more.")
        findings[source] = findings_by_window(operator, ledger, start_at, end_at)
    if not findings:
        raise CannotPlan("no source has a connection")
    return findings, remarks


def findings_by_window(
    operator: Fetch, ledger: Ledger, start_at: datetime, end_at: datetime
) -> dict[datetime, list[Finding]]:
    """Every finding by the start of the window that would have it."""
    hook = operator.hook(writes_allowed=False)
    found: dict[str, Finding] = {}
    begin = start_at - operator.overlap
    while begin < end_at:
        pages = operator.read(hook, begin, min(begin + STRETCH, end_at))
        readable, _ = operator.parse_all(pages, ["nowhere: this is a plan"] * len(pages))
        found |= {f.uid: f for f in readable}
        begin += STRETCH
    read = [(row.start_at, row.end_at) for row in ledger.windows.rows(operator.vendor)]
    windows = defaultdict(list)
    for finding in found.values():
        at = finding.detected_at
        if at >= start_at:
            windows[start_at + (at - start_at) // HOUR * HOUR].append(finding)
        elif not any(start <= at < end for start, end in read):
            # Nobody has read it: the first window's overlap will.
            windows[start_at].append(finding)
    return windows


def cases(
    findings: dict[str, dict[datetime, list[Finding]]], start_at: datetime, end_at: datetime
) -> Iterator[CaseBatch]:
    """What the extract task of each window would give, in order of time; none for a window without a finding."""
    rules = settings.policy().extraction
    for start in sorted({start for by_window in findings.values() for start in by_window}):
        window = Window(start_at=start, end_at=start + HOUR, chosen_by="a plan")
        batches = []
        for source, by_window in findings.items():
            mine = sorted(by_window.get(start, ()), key=lambda f: (f.detected_at, f.uid))
            batch = FetchBatch(
                source=source,
                window=window,
                pages=0,
                records=len(mine),
                archive=(),
                digest=digest([f.uid for f in mine]),
                findings=tuple(mine),
            )
            batches.append(batch)
        yield case_of(batches, rules.own, bounds=rules.bounds)


class _Tally:
    """Counts one provider's questions, window by window."""

    def __init__(self, operator: Enrich, forecast: Forecast, *, frozen: bool) -> None:
        self.operator, self.forecast, self.frozen = operator, forecast, frozen
        self.calls = Counter[str]()
        self.is_connected = settings.connection_exists(operator.conn_id)
        if not self.is_connected:
            forecast.problem = f"skipped: no connection {operator.conn_id!r}"
        #: What a run will have an answer of, since an earlier window's run has asked or one is stored.
        self._known: set[Observable] = set()

    @cached_property
    def hook(self) -> Any:
        return self.operator.hook(writes_allowed=False)

    def add(
        self,
        case: CaseBatch,
        of_high: set[Observable],
        *,
        ledger: Ledger,
        now: datetime,
        minimum_severity: Severity | None,
    ) -> None:
        sifted = self.operator.sift(case, now=now, minimum_severity=minimum_severity)
        for one in sifted.left_out:
            self.forecast.meets([one.observable], one.kind)
        self.forecast.high |= of_high
        new = [o for o in sifted.to_ask if self.frozen or o not in self._known]
        stored, _ = self.operator.stored(ledger, case.window, new, frozen=self.frozen, now=now)
        missing = [o for o in new if o.key not in stored]
        self._known.update(new)
        self.forecast.meets((o for o in new if o.key in stored), STORED)
        self.forecast.meets(missing, UNKNOWN if self.frozen else ASKED)
        if missing and not self.frozen and self.operator.is_remote and not self.forecast.problem:
            try:
                first_kind = self._meter(ledger).account.name
                _, questions = self.operator.prepare(self.hook, missing, self.hook.kept_copies())
                self.calls += count_calls(questions, first_kind)
            except VendorError as error:
                self.forecast.problem = f"cannot be planned: {error}"

    def finish(self, ledger: Ledger, now: datetime) -> None:
        if not self.operator.is_remote:
            self.forecast.problem = "local: no calls for values"
        elif self.frozen:
            self.forecast.problem = "frozen: nobody is asked"
        if not self.forecast.problem:
            kinds = self.calls or {self._meter(ledger).account.name: 0}
            self.forecast.costs = tuple(self._cost(kind, ledger, now) for kind in kinds)

    def _cost(self, kind: str, ledger: Ledger, now: datetime) -> Cost:
        meter = self._meter(ledger, kind)
        share = meter.rules.live_share
        left = {
            quota: ledger.quotas.left(meter.account, [quota], backfill=True, live_share=share, now=now)
            for quota in meter.quotas
        }
        return Cost(kind, self.calls[kind], tuple((quota, calls or 0) for quota, calls in left.items()), share)

    def _meter(self, ledger: Ledger, kind: str | None = None) -> Meter:
        return meter_of(self.hook, kind, ledger=ledger, backfill=True)
