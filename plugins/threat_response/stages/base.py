"""What the stages' operators share: a connection that may be absent, and a batch that is published even on failure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, Context

from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, Unexpected, VendorError

if TYPE_CHECKING:
    from threat_response.transport.hook import VendorHook

#: Which of several errors a task ends with. What a person must mend first, then what a retry can mend, last the
#: items that no retry can.
WORST_FIRST = (Unauthorized, Unexpected, RateLimited, Unavailable, Rejected)
#: After so many failures in a row the vendor is down, and waiting for the others' time-outs helps nobody.
ENOUGH_FAILURES = 3


def worst(errors: Iterable[VendorError]) -> VendorError:
    return min(errors, key=lambda error: next(n for n, kind in enumerate(WORST_FIRST) if isinstance(error, kind)))


@dataclass
class Failures:
    """The errors of a batch, and whether it still makes sense to go on with its other items."""

    errors: list[VendorError] = field(default_factory=list)
    stopped_by: VendorError | None = None
    _in_a_row: int = 0

    def add(self, error: VendorError) -> None:
        self.errors.append(error)
        self.notice(error)

    def notice(self, error: VendorError) -> None:
        """An error that may yet turn out to be none, but counts when the vendor seems to be down."""
        self._in_a_row = self._in_a_row + 1 if isinstance(error, Unavailable) else 0
        if isinstance(error, (Unauthorized, RateLimited)) or self._in_a_row >= ENOUGH_FAILURES:
            self.stopped_by = error

    def recovered(self) -> None:
        self._in_a_row = 0


class StageOperator(BaseOperator):
    """
    One stage of the runbook for one vendor, or for none.

    :param vendor: the vendor's name, which is also its folder's and its connection type's; a subclass that belongs to
        one vendor sets it
    :param conn_id: the vendor's connection, by default ``<vendor>_default``
    """

    vendor: str = ""
    template_fields: Sequence[str] = ("conn_id",)
    #: Every operator of a stage renders the stage's own fields as well as those that a vendor adds.
    stage_fields: ClassVar[Sequence[str]] = ("conn_id",)

    def __init__(self, *, vendor: str | None = None, conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vendor = vendor or type(self).vendor
        self.conn_id = conn_id or (f"{self.vendor}_default" if self.vendor else "")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.stage_fields = tuple(dict.fromkeys([*cls.stage_fields, *cls.template_fields]))
        cls.template_fields = cls.stage_fields

    @property
    def hook_class(self) -> Any:
        """The vendor's hook. Imported when a task runs: it brings an HTTP client along."""
        from threat_response.transport.hook import hook_class

        found: type[VendorHook] = hook_class(self.vendor)
        return found

    def hook(self, *, writes_allowed: bool = True) -> Any:
        """The vendor's hook on this task's connection."""
        return self.hook_class(self.conn_id, writes_allowed=writes_allowed)

    def publish(self, context: Context, batch: dict[str, Any]) -> None:
        """Hand the batch to the later stages now, and not only when the task ends."""
        # By hand, without Airflow, a task has nothing to publish with.
        if push := getattr(context.get("ti"), "xcom_push", None):
            push(key="return_value", value=batch)

    def failed_before(self, context: Context) -> list[str]:
        """Ids of the tasks directly before this one that have failed in this run, in order."""
        if not self.upstream_task_ids:
            return []
        ti = context["ti"]
        states = ti.get_task_states(ti.dag_id, task_ids=sorted(self.upstream_task_ids), run_ids=[ti.run_id])
        return sorted(name for name, state in states.get(ti.run_id, {}).items() if state == "failed")

    def finish(self, context: Context, batch: dict[str, Any], errors: Iterable[VendorError]) -> dict[str, Any]:
        """
        The task's result.

        :raises VendorError: the worst of ``errors``; the batch is published all the same, since later stages and the
            incident must tell what was done and what was not
        """
        failed = list(errors)
        if failed:
            self.publish(context, batch)
            raise worst(failed)
        return batch
