"""The fetch operator for API Security, against the simulator."""

from __future__ import annotations

import copy
import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.simulators.akamai_api_security import AkamaiApiSecuritySimulator
from include.soar.model import FetchBatch, Role
from include.soar.vendor.errors import Unauthorized, Unexpected
from tests.support import SimServer
from tests.vendors.akamai_api_security.test_hook import neosec
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.vendors.akamai_api_security.operators import AkamaiApiSecurityFetchOperator

PRODUCT = "akamai_api_security"
KNOBS = AkamaiApiSecuritySimulator.settings
START = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sim: SimServer) -> Path:
    policies = [ROOT / "include/config/policy.yaml", ROOT / "include/config/policy.demo.yaml"]
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", ":".join(map(str, policies)))
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    connect(
        monkeypatch,
        "akamai_api_security_default",
        PRODUCT,
        sim,
        login=KNOBS["client_id"],
        password=KNOBS["client_secret"],
        page_size=10,
    )
    return tmp_path


def incident(number: int, minutes: float, **more: Any) -> dict[str, Any]:
    when = (START + timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "id": f"i-{number:04d}",
        "title": f"Incident {number}",
        "severity": "High",
        "module": "Runtime",
        "status": "open",
        "detectionTime": when,
        "attackerIp": f"203.0.113.{number}",
        **more,
    }


def seed(sim: SimServer, *incidents: dict[str, Any], findings: Any = (), alerts: Any = ()) -> None:
    sim.seed(PRODUCT, {"incidents": list(incidents), "findings": list(findings), "alerts": list(alerts)})


def run(hours: int = 0, length: int = 1) -> FetchBatch:
    """The scheduled run whose window starts ``hours`` after START."""
    start = START + timedelta(hours=hours)
    end = start + timedelta(hours=length)
    context: Any = {
        "dag_run": SimpleNamespace(run_type="scheduled", run_id=f"r{hours}", dag_id="d", run_after=end),
        "params": {},
        "logical_date": start,
        "data_interval_start": start,
        "data_interval_end": end,
        "ti": SimpleNamespace(xcom_push=lambda **_: None),
    }
    return FetchBatch.model_validate(AkamaiApiSecurityFetchOperator(task_id="fetch").execute(context))


def names(batch: FetchBatch) -> list[str]:
    return [finding.vendor_id for finding in batch.findings]


def test_every_record_of_the_window_becomes_a_finding_once(sim: SimServer) -> None:
    posture = incident(1, 5, module="Posture", status="resolved") | {"id": "f-1"}
    seed(sim, *(incident(n, n) for n in range(1, 26)), findings=[posture])
    batch = run()
    assert len(batch.findings) == 26
    assert (batch.source, batch.pages, batch.records) == (PRODUCT, 4, 26)
    assert [f.detected_at for f in batch.findings] == sorted(f.detected_at for f in batch.findings)
    kept = next(f for f in batch.findings if f.vendor_id == "f-1")
    assert "status:resolved" in kept.tags
    assert not [m for m in kept.mentions if m.role is Role.ATTACKER]
    (window,) = settings.ledger().windows.rows(PRODUCT)
    assert (window.findings, window.rejected, window.digest) == (26, 0, batch.digest)


def test_a_replay_gives_the_same_findings_and_the_same_digest(sim: SimServer) -> None:
    seed(sim, *(incident(n, n) for n in range(1, 26)))
    first, again = run(), run()
    assert again.findings == first.findings
    assert again.digest == first.digest
    assert again.archive == first.archive  # named by content


def test_a_late_arrival_is_picked_up_by_the_next_window_exactly_once(sim: SimServer) -> None:
    seed(sim, incident(1, 10))
    assert names(run()) == ["i-0001"]
    seed(sim, incident(2, 20), incident(3, 70))  # 2 belongs to the window that has been read
    assert names(run(1)) == ["i-0002", "i-0003"]
    assert names(run(2)) == []
    assert names(run(1)) == ["i-0002", "i-0003"]


def test_a_broken_record_costs_only_itself(sim: SimServer) -> None:
    broken = incident(2, 20, severity="Severe\nERROR forged line")
    timeless = dict(incident(4, 25)) | {"url": 7, "attacker": "x"}
    seed(sim, incident(1, 10), broken, incident(3, 30), timeless)
    batch = run()
    assert names(batch) == ["i-0001", "i-0004", "i-0003"]
    (rejected,) = batch.rejected
    assert (rejected.record, rejected.field) == ("incident i-0002", "severity")
    assert "\n" not in rejected.problem
    assert rejected.kept_at is not None
    page = gzip.decompress(Path(rejected.kept_at.removeprefix("file://")).read_bytes())
    assert b"i-0002" in page
    assert settings.ledger().windows.rows(PRODUCT)[0].rejected == 1


def test_a_short_read_leaves_no_window_behind(sim: SimServer) -> None:
    seed(sim, *(incident(n, n) for n in range(1, 26)))
    sim.fault(PRODUCT, "empty", path="/incidents", key="entities", skip=1)
    with pytest.raises(Unexpected):
        run()
    assert not settings.ledger().windows.rows(PRODUCT)
    assert len(run().findings) == 25


def test_a_missing_grant_stops_the_task(sim: SimServer) -> None:
    sim.configure(PRODUCT, can_read=False)
    with pytest.raises(Unauthorized) as caught:
        run()
    assert caught.value.status == 403


def test_a_token_that_expires_in_the_middle_costs_nothing(sim: SimServer) -> None:
    seed(sim, *(incident(n, n) for n in range(1, 26)))
    sim.fault(PRODUCT, "status", path="/incidents", status=401, skip=1)
    assert len(run().findings) == 25


def test_a_header_of_five_megabytes_is_read(sim: SimServer) -> None:
    huge = "203.0.113.200, " * 340_000
    seed(sim, incident(1, 10, evidence=[{"headers": {"X-Forwarded-For": huge}}]), incident(2, 20))
    batch = run()
    assert len(batch.findings) == 2
    assert all(len(m.text) <= 65_536 for f in batch.findings for m in f.mentions)
    assert [m.role for m in batch.findings[0].mentions if "200" in m.text] == [Role.CLAIM]


def test_neosec_alerts_become_findings(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    neosec(monkeypatch, sim)
    alerts = [
        {
            "id": f"a-{n}",
            "name": "Brute force",
            "severity": "High",
            "status": "Open",
            "alert_type": "UserBehaviorAlert",
            "triggered_at": (START + timedelta(minutes=n)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "caller_ips": ["203.0.113.7"],
        }
        for n in range(70)
    ]
    seed(sim, alerts=[*copy.deepcopy(alerts), {"id": "bad", "triggered_at": alerts[3]["triggered_at"]}])
    batch = run()
    assert len(batch.findings) == 60
    assert [r.record for r in batch.rejected] == ["alert bad"]
    assert names(run(1)) == [f"a-{n}" for n in range(60, 70)]


def test_without_a_connection_the_source_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_AKAMAI_API_SECURITY_DEFAULT")
    with pytest.raises(AirflowSkipException):
        run()
