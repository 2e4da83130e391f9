"""Stages 4, 5 and 9 run as Airflow would run them: with what the stages before gave, and again after an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from include.soar.model import CaseBatch, Decision, IncidentBatch
from include.soar.vendor.errors import RateLimited, Unavailable
from tests.stages.incidents.incident_examples import case, context, decision, finding
from tests.stages.incidents.incident_products import Product
from threat_response.stages.incident_system import IncidentOperator
from threat_response.stages.open_incidents import OpenIncidents
from threat_response.stages.relate import Relate
from threat_response.stages.update_incidents import UpdateIncidents

Json = dict[str, Any]


class Runs:
    """The three stages over one product. ``decided`` is by default: every observable is bad and acted on."""

    def __init__(self, vendor: str) -> None:
        self.vendor = vendor

    def open(self, batch: CaseBatch, decided: Decision | None = None, ctx: Json | None = None) -> Json:
        return self._run(OpenIncidents, "open_incidents", batch, decided, ctx)

    def relate(
        self, batch: CaseBatch, opened: Json | None, decided: Decision | None = None, ctx: Json | None = None
    ) -> Json:
        return self._run(Relate, "relate", batch, decided, ctx, incidents=opened)

    def update(
        self,
        batch: CaseBatch,
        opened: Json | None,
        decided: Decision | None = None,
        ctx: Json | None = None,
        **more: Any,
    ) -> Json:
        return self._run(UpdateIncidents, "update_incidents", batch, decided, ctx, incidents=opened, **more)

    def _run(
        self,
        operator: type[IncidentOperator],
        task_id: str,
        batch: CaseBatch,
        decided: Decision | None,
        ctx: Json | None,
        **more: Any,
    ) -> Json:
        both = {"case": batch.to_json(), "decision": (decided or decision(batch)).to_json()}
        task = operator(task_id=task_id, vendor=self.vendor, **both, **more)
        return dict(task.execute(ctx or context()))


def outcomes(opened: Json) -> list[str]:
    return [ref.outcome.value for ref in IncidentBatch.model_validate(opened).incidents]


def published(ctx: Json) -> Json:
    """What a task that failed has given all the same."""
    return dict(ctx["ti"].pushed["return_value"])


def until_done(attempt: Callable[[Json], Json], tries: int = 3) -> Json:
    """As Airflow would: again after an error that a retry can mend."""
    for _ in range(tries):
        try:
            return attempt(context())
        except (Unavailable, RateLimited):
            continue
    return attempt(context())


def two_fail_then_one_is_read(product: Product, runs: Runs) -> tuple[CaseBatch, Json]:
    """Six incidents, of which two cannot be read, one can, and the same again: never three failures in a row."""
    batch = case(*(finding(f"f-{n}") for n in range(6)), seen={})
    opened = runs.open(batch)
    ids = [ref["unique_id"] for ref in opened["incidents"]]
    for id in (ids[0], ids[1], ids[3], ids[4]):
        product.fault("get", "down", about=id)
    product.forget_calls()
    return batch, opened
