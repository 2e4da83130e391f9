"""Context from the offline table in the workflow: tags, and never an opinion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.model import Answer, CaseBatch, Observable, Reputation, ReputationBatch, Standing
from tests.soar.deciding import decided
from tests.soar.examples import NOW, address, domain, finding, observed, window
from tests.stages.controls import POLICY, PROTECTED, context
from threat_response.runtime import settings
from threat_response.stages.enrich import Enrich

SAMPLE = Path(__file__).parent / "samples/ip2asn-combined.tsv"
EVIL, SIX, UNROUTED = address("198.51.100.7"), address("2001:db8::1"), address("2001:db8:1::1")


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("THREAT_RESPONSE_POLICY", POLICY)
    monkeypatch.setenv("THREAT_RESPONSE_HOME", str(tmp_path))
    file = tmp_path / "table.tsv"
    file.write_bytes(SAMPLE.read_bytes())
    document = json.dumps({"conn_type": "offline_asn", "extra": {"table": str(file)}})
    monkeypatch.setenv("AIRFLOW_CONN_OFFLINE_ASN_DEFAULT", document)
    return file


def case_of(*observables: Observable) -> dict[str, object]:
    items = tuple(observed(o) for o in observables)
    return CaseBatch(window=window(), findings=(finding(),), observed=items).to_json()


def enrich(*observables: Observable) -> dict[str, Reputation]:
    result = Enrich(vendor="offline_asn", task_id="offline_asn", case=case_of(*observables)).execute(context())
    return {r.observable.value: r for r in ReputationBatch.model_validate(result).reputations}


def test_addresses_get_tags_and_nothing_gets_an_opinion() -> None:
    answers = enrich(EVIL, SIX, UNROUTED, domain("evil.example"), address(PROTECTED))
    assert {value: r.tags for value, r in answers.items()} == {
        EVIL.value: ("AS64496", "as-name:EXAMPLE-NET Example Hosting", "country:ZZ"),
        SIX.value: ("AS64511", "as-name:EXAMPLE-SIX", "country:ZZ"),
        UNROUTED.value: (),
        "evil.example": (),
        PROTECTED: (),
    }
    assert {r.answer for r in answers.values()} == {Answer.NOT_APPLICABLE}
    assert settings.ledger().answers.known("offline_asn", [EVIL, SIX], now=NOW, stale=True) == {}


def test_context_changes_no_verdict_and_is_no_silence() -> None:
    case = case_of(EVIL)
    said = Enrich(vendor="offline_asn", task_id="offline_asn", case=case).execute(context())
    decision = decided(case, {"offline_asn": said}, settings.policy(), now=NOW).decision.to_json()
    (verdict,) = decision["verdicts"]
    assert (verdict["standing"], verdict["confidence"]) == (Standing.UNKNOWN.value, 0)
    assert decision["silent_providers"] == []
    (reputation,) = verdict["reputations"]
    assert reputation["tags"][0] == "AS64496", "the incident can show it"


def test_a_table_that_is_gone_stops_nothing_and_says_so(table: Path) -> None:
    table.unlink()
    answers = enrich(EVIL, domain("evil.example"))
    assert answers[EVIL.value].answer is Answer.ERROR
    assert "there is no such object" in answers[EVIL.value].summary
    assert answers["evil.example"].answer is Answer.NOT_APPLICABLE


def test_without_a_connection_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_OFFLINE_ASN_DEFAULT")
    with pytest.raises(AirflowSkipException):
        enrich(EVIL)
