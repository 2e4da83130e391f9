"""The end of a run: a stage that failed must not hide behind an update that succeeded."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context, TriggerRule

from threat_response.stages.base import StageOperator


class FailTheRun(StageOperator):
    """
    Turns the run red if any of its tasks failed. Airflow colours a run by its last tasks only, and these run whatever
    happened before.

    :raises RuntimeError: always, naming what has failed so far: it runs as soon as a task failed
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("trigger_rule", TriggerRule.ONE_FAILED)
        # Its failure is the message. A second try would only repeat it.
        kwargs.setdefault("retries", 0)
        super().__init__(**kwargs)

    def execute(self, context: Context) -> None:
        failed = ", ".join(self.failed_before(context)) or "a task"
        raise RuntimeError(f"{failed} failed: the last error line of its log says why")
