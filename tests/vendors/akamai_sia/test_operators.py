"""The fetch operator for SIA, against the simulator."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException

from include.simulators.akamai_sia import AkamaiSiaSimulator
from include.soar.model import FetchBatch, Role
from include.soar.vendor.errors import Unauthorized, Unexpected
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.vendors.akamai_sia.operators import AkamaiSiaFetchOperator

PRODUCT = "akamai_sia"
KNOBS = AkamaiSiaSimulator.settings
START = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sim: SimServer) -> Path:
    policies = [ROOT / "include/config/policy.yaml", ROOT / "include/config/policy.demo.yaml"]
    monkeypatch.setenv("THREAT_RESPONSE_POLICY", ":".join(map(str, policies)))
    monkeypatch.setenv("THREAT_RESPONSE_HOME", str(tmp_path))
    connect(
        monkeypatch,
        "akamai_sia_default",
        PRODUCT,
        sim,
        login=KNOBS["client_token"],
        password=KNOBS["client_secret"],
        access_token=KNOBS["access_token"],
        config_id="41041",
        page_size=10,
    )
    return tmp_path


def event(number: int, minutes: float, **more: Any) -> dict[str, Any]:
    when = (START + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "l7Protocol": "DNS",
        "query": {
            "uuid": f"q-{number:04d}",
            "domain": f"c{number}.badware.example.",
            "clientIp": "192.0.2.1",
            "time": when,
        },
        "event": {
            "detectionTime": when,
            "severityId": 2,
            "listId": "1",
            "listName": "Malware",
            "policyId": "1",
            "confidenceName": "Known",
            "threatName": "Known Malware",
            **more,
        },
    }


def seed(sim: SimServer, *events: dict[str, Any]) -> None:
    sim.seed(PRODUCT, {"configs": {"41041": list(events)}})


def run(hours: int = 0, start: datetime = START) -> FetchBatch:
    """The scheduled run whose window of an hour starts ``hours`` after START."""
    start += timedelta(hours=hours)
    end = start + timedelta(hours=1)
    context: Any = {
        "dag_run": SimpleNamespace(run_type="scheduled", run_id=f"r{hours}", dag_id="d", run_after=end),
        "params": {},
        "logical_date": start,
        "data_interval_start": start,
        "data_interval_end": end,
        "ti": SimpleNamespace(xcom_push=lambda **_: None),
    }
    return FetchBatch.model_validate(AkamaiSiaFetchOperator(task_id="fetch").execute(context))


def names(batch: FetchBatch) -> list[str]:
    return [finding.vendor_id for finding in batch.findings]


def test_every_event_of_the_window_becomes_a_finding_once(sim: SimServer) -> None:
    seed(sim, *(event(n, n) for n in range(25)))
    batch = run()
    assert names(batch) == [f"q-{n:04d}" for n in range(25)]
    assert (batch.source, batch.pages, batch.records) == (PRODUCT, 3, 25)
    assert batch.findings[7].title == "Malware: c7.badware.example (Known Malware)"
    (window,) = settings.ledger().windows.rows(PRODUCT)
    assert (window.findings, window.rejected, window.digest) == (25, 0, batch.digest)


def test_a_replay_gives_the_same_findings_and_the_same_digest(sim: SimServer) -> None:
    seed(sim, *(event(n, n) for n in range(25)))
    first, again = run(), run()
    assert again.findings == first.findings
    assert again.digest == first.digest


def test_row_numbers_that_restart_on_every_page_merge_nothing(sim: SimServer) -> None:
    """Each page's rows are numbered from 0; 25 events on 3 pages stay 25 findings."""
    seed(sim, *(event(n, 5) for n in range(25)))
    assert len({f.uid for f in run().findings}) == 25


def test_a_late_arrival_is_picked_up_by_the_next_window_exactly_once(sim: SimServer) -> None:
    seed(sim, event(1, 10))
    assert names(run()) == ["q-0001"]
    seed(sim, event(2, 20), event(3, 70))  # 2 belongs to the window that has been read
    assert names(run(1)) == ["q-0002", "q-0003"]
    assert names(run(2)) == []
    assert names(run(1)) == ["q-0002", "q-0003"]


def test_the_end_of_a_window_belongs_to_the_next(sim: SimServer) -> None:
    seed(sim, event(1, 59), event(2, 60))
    assert names(run()) == ["q-0001"]
    assert names(run(1)) == ["q-0002"]


def test_a_broken_row_costs_only_itself(sim: SimServer) -> None:
    seed(sim, event(1, 10), event(2, 20, severityId=9), event(3, 30, severityId=None), event(4, 40))
    batch = run()
    assert names(batch) == ["q-0001", "q-0004"]
    assert [(r.record, r.field) for r in batch.rejected] == [
        ("q-0002", "event.severityId"),
        ("q-0003", "event.severityId"),
    ]
    kept_at = batch.rejected[0].kept_at
    assert kept_at is not None
    assert b"q-0002" in gzip.decompress(Path(kept_at.removeprefix("file://")).read_bytes())
    assert settings.ledger().windows.rows(PRODUCT)[0].rejected == 2


def test_a_short_read_leaves_no_window_behind(sim: SimServer) -> None:
    seed(sim, *(event(n, n) for n in range(25)))
    sim.fault(PRODUCT, "empty", key="dataRows", skip=1)
    with pytest.raises(Unexpected):
        run()
    assert not settings.ledger().windows.rows(PRODUCT)
    assert len(run().findings) == 25


def test_a_missing_grant_stops_the_task(sim: SimServer) -> None:
    seed(sim, event(1, 10))
    sim.configure(PRODUCT, granted=False)
    with pytest.raises(Unauthorized) as caught:
        run()
    assert caught.value.status == 403


def test_a_window_that_is_not_settled_is_waited_for(sim: SimServer) -> None:
    seed(sim, event(1, 10))
    end = settings.now() - timedelta(minutes=1)
    with pytest.raises(AirflowRescheduleException) as caught:
        run(start=end - timedelta(hours=1))
    assert caught.value.reschedule_date == end + timedelta(minutes=3)
    assert not sim.calls(PRODUCT)


def test_a_header_of_five_megabytes_is_read(sim: SimServer) -> None:
    proxied = {
        "l7Protocol": "HTTP",
        "request": {
            "uuid": "r-1",
            "domain": "c2.badware.example.",
            "uri": "/a",
            "headers": [{"name": "X-Forwarded-For", "value": "198.51.100.200, " * 330_000}],
        },
        "response": {"hash": "", "headers": []},
        "event": event(1, 10)["event"],
    }
    seed(sim, proxied, event(2, 20))
    batch = run()
    assert names(batch) == ["r-1", "q-0002"]
    assert all(len(m.text) <= 65_536 for f in batch.findings for m in f.mentions)
    assert [m.role for m in batch.findings[0].mentions if "198.51.100.200" in m.text] == [Role.CLAIM]


def test_without_a_connection_the_source_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_AKAMAI_SIA_DEFAULT")
    with pytest.raises(AirflowSkipException):
        run()
