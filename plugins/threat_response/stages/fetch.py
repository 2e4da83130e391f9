"""Stage 1: every finding of the window, once, from each source."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowRescheduleException
from pydantic import ValidationError

from include.soar.model import (
    FetchBatch,
    Finding,
    RejectedRecord,
    Role,
    Window,
    digest,
)
from include.soar.vendor.errors import (
    RecordProblem,
    one_line,
)
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.base import StageOperator

#: What nonsense in one record can raise while it is read. It costs that record.
UNREADABLE = (ValueError, TypeError, KeyError, ArithmeticError, RecursionError)


@dataclass(frozen=True)
class Page:
    """One raw page: the bytes as they came, and its records."""

    number: int
    body: bytes
    records: list[Any]


class Fetch(StageOperator):
    """
    Read every finding of the run's window from one source.

    Gives a ``FetchBatch`` as JSON. Each raw page is archived as it came; a record that cannot be read is named in the
    batch and costs itself only; the window gets a row in the ledger. A short read is an error.

    :param conn_id: the source's connection. Absent: the task is skipped.
    :param overlap: how far before the window's start to read again, for events that arrived late. A finding
        from there counts only if no earlier window has delivered it.
    """

    #: How long after an event the source is complete. The task waits until then.
    settled_after: ClassVar[timedelta] = timedelta(0)
    #: Whether the source adds attackers to an event that it has told already. :meth:`read` then also gives events of
    #: before the window that may have grown.
    grows: ClassVar[bool] = False

    def __init__(self, *, overlap: timedelta = timedelta(hours=3), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.overlap = overlap

    # What a vendor fills in.

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

    def told(self, record: Any, finding: Finding) -> Iterable[tuple[str, str]]:
        """Field and problem of what was left out of a record that is taken: a person must be able to see it."""
        return ()

    def name_of(self, record: Any) -> str | None:
        """The vendor's id of a record, for naming it when it cannot be read; None to name it by its place."""
        return None

    # What is the same for all.

    def execute(self, context: Context) -> dict[str, Any]:
        settings.skip_if_absent(self.conn_id, f"source {self.vendor}")
        window = Run.of(context).window
        settled_at = window.end_at + self.settled_after
        if settings.now() < settled_at:
            self.log.info("%s is complete up to %s only at %s: waiting", self.vendor, window.end_at, settled_at)
            raise AirflowRescheduleException(settled_at)
        self.log.info(
            "Reading %s for [%s, %s), chosen by %s; from %s on for late events",
            self.vendor,
            window.start_at,
            window.end_at,
            window.chosen_by,
            window.start_at - self.overlap,
        )
        pages = self.read(self.hook(), window.start_at - self.overlap, window.end_at)
        archived = [self._archive(window, page) for page in pages]
        findings, rejected = self.parse_all(pages, archived)
        batch = self._batch(window, pages, archived, findings, rejected)
        return self._deliver(context, window, batch)

    def _deliver(self, context: Context, window: Window, read: FetchBatch) -> dict[str, Any]:
        """
        Give the run what is this window's, and then claim it. The other way round what was claimed would be lost with
        a task that dies, or whose batch the database refuses, before it is given. The claim is for good when the next
        stage has the batch: see ``Extract``.
        """
        from include.soar.extract import growth

        windows, now = settings.ledger().windows, settings.now()
        parts = growth.parts if self.grows else _no_parts
        free = windows.free_findings([*read.findings, *parts(read.findings)], window_key=window.key, now=now)
        mine = tuple(f for f in read.findings if f.detected_at >= window.start_at or f.uid in free)
        if self.grows:
            mine = self._grown(window, read.findings, free)
        batch = read.model_copy(update={"findings": mine, "grows": self.grows})
        given = batch.to_json()
        self.publish(context, given)
        windows.claim_findings([*mine, *parts(mine)], window_key=window.key, now=now)
        windows.record(batch, run_id=Run.of(context).name, now=now)
        self.log.info(
            "%s: %d records on %d pages, %d findings of this window (%d of them late), %d records not readable",
            self.vendor,
            batch.records,
            batch.pages,
            len(mine),
            sum(f.detected_at < window.start_at for f in mine),
            len(batch.rejected),
        )
        return given

    def _archive(self, window: Window, page: Page) -> str:
        # Named by content: a repeated read leaves the same object, a changed one leaves both.
        name = f"{window.key}/page-{page.number:05d}-{digest(page.body.hex())[:12]}.json.gz"
        return settings.archive_write(
            settings.archive() / "raw" / self.vendor / name, gzip.compress(page.body, compresslevel=6, mtime=0)
        )

    def parse_all(self, pages: list[Page], archived: list[str]) -> tuple[list[Finding], list[RejectedRecord]]:
        """
        Every record as a finding, or named among those that cannot be read.

        :param archived: where each page is kept
        """
        findings: list[Finding] = []
        rejected: list[RejectedRecord] = []
        for page, kept_at in zip(pages, archived, strict=True):
            for row, record in enumerate(page.records):
                try:
                    findings.append(self.parse(record))
                    rejected += self._left_out(page, row, kept_at, findings[-1])
                except UNREADABLE as error:
                    rejected.append(self._reject(page, row, kept_at, error))
        return findings, rejected

    def _left_out(self, page: Page, row: int, kept_at: str, finding: Finding) -> list[RejectedRecord]:
        from include.soar.extract.records import LEFT_OUT

        cut = [(m.field, m.text) for m in finding.mentions if m.field == LEFT_OUT]
        problems = [*cut, *self.told(page.records[row], finding)]
        return [self._reject(page, row, kept_at, RecordProblem(*one), part=True) for one in problems]

    def _grown(self, window: Window, findings: Sequence[Finding], free: AbstractSet[str]) -> tuple[Finding, ...]:
        """
        Of events that may have grown, what is this window's. An event that is older than our first window, which may
        be this one (a backfill), is of before our time, and left alone until it grows.
        """
        from include.soar.extract import growth

        windows = settings.ledger().windows
        since = min(windows.first_start(self.vendor) or window.start_at, window.start_at) - self.overlap
        shares = growth.shares(findings, free, window)
        mine = tuple(f for f in shares if f.grown_at or f.detected_at >= since)
        before = [f for f in shares if not (f.grown_at or f.detected_at >= since)]
        known = growth.without_parts(findings, free, window)
        windows.deliver_findings([*before, *growth.parts([*before, *known])], window_key=window.key, now=settings.now())
        for finding in mine:
            if finding.grown_at:
                added = sum(m.role is Role.ATTACKER for m in finding.mentions)
                self.log.info("Finding %s has grown: %d attackers to look at", one_line(finding.vendor_id), added)
        return mine

    def _reject(self, page: Page, row: int, kept_at: str, error: Exception, *, part: bool = False) -> RejectedRecord:
        """
        :param part: the record is taken, without what is named here
        """
        if isinstance(error, ValidationError):
            first = error.errors(include_input=False, include_url=False)[0]
            field_name, problem = ".".join(map(str, first["loc"])) or "(whole)", first["msg"]
        elif isinstance(error, RecordProblem):
            field_name, problem = error.field, error.problem
        else:
            field_name, problem = "(whole)", f"{type(error).__name__}: {error}"
        rejection = RejectedRecord(
            source=self.vendor,
            record=one_line(self.name_of(page.records[row]) or f"page {page.number}, row {row}", 200),
            field=one_line(field_name, 200),
            problem=one_line(problem),
            kept_at=kept_at,
        )
        self.log.warning(
            "Left out %s%s record %s: field %s: %s; kept at %s",
            "a part of " if part else "",
            self.vendor,
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
            source=self.vendor,
            window=window,
            pages=len(pages),
            records=sum(len(page.records) for page in pages),
            archive=tuple(archived),
            digest=digest([f.uid for f in ordered]),
            findings=tuple(ordered),
            rejected=tuple(rejected),
        )


def _no_parts(findings: Sequence[Finding]) -> list[Finding]:
    return []
