"""Every provider down, slow, talking nonsense, refusing the key or out of quota: the run goes on, and guesses not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.soar.extract.findings import observe
from include.soar.incident import plain, texts
from include.soar.model import Answer, CaseBatch, Decision, ReputationBatch, Standing, Window
from include.soar.vendor.errors import VendorError
from tests.soar.deciding import blocked, decided
from tests.soar.examples import address, finding, mention
from tests.stages.enriching.providers import PROVIDERS, PUBLIC, PUBLIC_IPV4, connect_providers, use_policy
from tests.support import SimServer
from threat_response.registry import operators
from threat_response.runtime import settings

EVIL = address("203.0.113.7")
VALUES = f"{EVIL.value} evil.example http://evil.example/a.exe {'a' * 64}"
COLLECTION = {"id": "91a7b528-80eb-42ed-a74d-c6fbd5a26116", "title": "c", "objects": []}
Fault = Callable[[SimServer, str], None]


@pytest.fixture
def vendors(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimServer:
    use_policy(monkeypatch, tmp_path, quotas={name: [] for name in PROVIDERS})
    connect_providers(monkeypatch, sim)
    listed = {"abuseConfidenceScore": 100, "totalReports": 90, "numDistinctUsers": 20}
    sim.seed("abuseipdb", {"addresses": {EVIL.value: listed}, "public_networks": PUBLIC})
    sim.seed("greynoise", {"public_networks": PUBLIC_IPV4})
    sim.seed("alienvault_otx", {"public_networks": PUBLIC})
    sim.seed("taxii", {"roots": {"intel": {"title": "t", "collections": [COLLECTION]}}})
    drop = (
        '{"cidr": "203.0.113.0/29", "sblid": "SBL1", "rir": "x"}\n{"type": "metadata", "timestamp": 1, "records": 1}\n'
    )
    sim.seed("list_feed", {"files": {"drop_v4.json": drop, "malware-domains.txt": "evil.example\n"}})
    return sim


def case() -> dict[str, Any]:
    end = settings.now().replace(minute=0, second=0, microsecond=0)
    one = finding("f1", seen=end, mentions=(mention(VALUES),))
    return CaseBatch(
        window=Window(start_at=end, end_at=end, chosen_by="a test"), findings=(one,), observed=observe([one])
    ).to_json()


def ask(name: str, case: dict[str, Any]) -> dict[str, Any] | None:
    """What the DAG hands to ``decide``: None where a task of the provider is red."""
    run: Any = {"dag_run": SimpleNamespace(run_type="scheduled", run_id="r", dag_id="d"), "params": {}}
    more = {}
    if name in operators("refresh"):
        try:
            more["lists"] = operators("refresh")[name](task_id="refresh").execute(run)
        except VendorError:
            return None
    said: dict[str, Any] = operators("enrich")[name](task_id=name, case=case, **more).execute(run)
    return said


def decide(case: dict[str, Any], answers: dict[str, dict[str, Any] | None]) -> Decision:
    return decided(case, answers, settings.policy(), now=settings.now()).decision


def down(sim: SimServer, name: str) -> None:
    sim.fault(name, "reset", times=-1)


def slow(sim: SimServer, name: str) -> None:
    sim.fault(name, "delay", times=-1, seconds=2)


def nonsense(sim: SimServer, name: str) -> None:
    sim.fault(name, "html", times=-1, status=200)


def revoked(sim: SimServer, name: str) -> None:
    secret = {"taxii": "password", "list_feed": "basic_password"}.get(name, "api_key")
    sim.configure(name, **{secret: "another-one"} | ({"basic_user": "reader"} if name == "list_feed" else {}))


def spent(sim: SimServer, name: str) -> None:
    sim.fault(name, "status", times=-1, status=429, headers={"Retry-After": "3600"})


@pytest.mark.parametrize("fault", [down, slow, nonsense, revoked, spent])
def test_with_every_provider_silent_the_run_goes_on_and_nothing_is_blocked(
    fault: Fault, vendors: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threat_response.vendors.abuseipdb.api.BLACKLIST_TIMEOUT_SECONDS", 0.05)
    for name in PROVIDERS:
        monkeypatch.setattr(f"threat_response.vendors.{name}.api.TIMEOUT_SECONDS", 0.05)
        fault(vendors, name)
    given = case()
    answers = {name: ask(name, given) for name in PROVIDERS}
    for name, answer in answers.items():
        said = ReputationBatch.model_validate(answer).reputations if answer else ()
        asked = [r for r in said if r.answer is not Answer.NOT_APPLICABLE]
        assert answer is None or asked, name
        assert {r.answer for r in asked} <= {Answer.NOT_CHECKED, Answer.ERROR}, name
        assert all(r.summary for r in asked), name
    decision = decide(given, answers)
    assert decision.silent_providers == tuple(sorted(PROVIDERS))
    assert (blocked(decision), decision.held, decision.refusals) == ([], (), ())
    assert {v.standing for v in decision.verdicts} == {Standing.UNKNOWN}
    batch = CaseBatch.model_validate(given)
    told = texts.description(batch, decision, batch.findings[0], source="s", mark="TR-x")
    [line] = [line for line in plain.render_text(told).splitlines() if line.startswith("Gave no answer")]
    assert all(f"{name}: " in line for name in PROVIDERS)


def test_one_silent_provider_counts_as_if_it_were_not_there(vendors: SimServer) -> None:
    given = case()
    healthy = {name: ask(name, given) for name in PROVIDERS}
    whole = decide(given, healthy)
    assert whole.silent_providers == ()
    assert EVIL in {i.observable for i in whole.indicators}  # two sources list it
    for name in PROVIDERS:
        said = healthy[name]
        assert said is not None, name
        silent = {**said, "reputations": [_silenced(r) for r in said["reputations"]]}
        with_silent = decide(given, healthy | {name: silent})
        without = decide(given, {other: answer for other, answer in healthy.items() if other != name})
        assert with_silent.silent_providers == (name,)
        assert blocks(with_silent) == blocks(without), name


def blocks(decision: Decision) -> list[tuple[str, int]]:
    return [(i.observable.key, i.confidence) for i in decision.indicators]


def _silenced(said: dict[str, Any]) -> dict[str, Any]:
    return said if said["answer"] == "not_applicable" else {**said, "answer": "error", "score": None}
