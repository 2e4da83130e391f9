"""The enrichment by GreyNoise, against the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.simulators.greynoise import GreyNoiseSimulator
from include.soar.model import Answer, CaseBatch, Observable, Reputation, ReputationBatch
from tests.soar.examples import address, domain, observed, window
from tests.stages.controls import POLICY, PROTECTED, context
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.stages.enrich import Enrich
from threat_response.vendors.greynoise import api

EVIL, DNS, QUIET = address("203.0.113.7"), address("203.0.113.53"), address("203.0.113.99")
KEY = GreyNoiseSimulator.settings["api_key"]


@pytest.fixture(autouse=True)
def vendor(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimServer:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    connect(monkeypatch, "greynoise_default", "greynoise", sim, password=KEY)
    sim.seed(
        "greynoise",
        {
            "addresses": {
                EVIL.value: {"internet_scanner_intelligence": {"classification": "malicious"}},
                DNS.value: {"business_service_intelligence": {"name": "Example DNS", "trust_level": "1"}},
            },
            "public_networks": ["203.0.113.0/24"],
        },
    )
    return sim


@pytest.fixture
def paid(vendor: SimServer, monkeypatch: pytest.MonkeyPatch) -> SimServer:
    connect(monkeypatch, "greynoise_default", "greynoise", vendor, password=KEY, plan="paid")
    vendor.configure("greynoise", plan="paid")
    return vendor


def enrich(*observables: Observable) -> dict[str, Reputation]:
    case = CaseBatch(window=window(), findings=(), observed=tuple(observed(o) for o in observables)).to_json()
    result = Enrich(vendor="greynoise", task_id="greynoise", case=case).execute(context())
    batch = ReputationBatch.model_validate(result)
    assert batch.provider == "greynoise"
    return {r.observable.value: r for r in batch.reputations}


def answers_of(*observables: Observable) -> dict[str, tuple[Answer, int | None]]:
    return {value: (r.answer, r.score) for value, r in enrich(*observables).items()}


EXPECTED = {
    EVIL.value: (Answer.LISTED, 100),
    DNS.value: (Answer.NOT_LISTED, 0),
    QUIET.value: (Answer.NOT_LISTED, 0),
    "2001:db8::1": (Answer.NOT_APPLICABLE, None),
    "evil.example": (Answer.NOT_APPLICABLE, None),
    PROTECTED: (Answer.NOT_APPLICABLE, None),
    "10.0.0.1": (Answer.NOT_APPLICABLE, None),
}
EVERYTHING = [EVIL, DNS, QUIET, address("2001:db8::1"), domain("evil.example"), address(PROTECTED), address("10.0.0.1")]


def test_a_paid_plan_asks_about_all_at_once(paid: SimServer) -> None:
    assert answers_of(*EVERYTHING) == EXPECTED
    (call,) = paid.calls("greynoise")
    assert (call["method"], call["path"]) == ("POST", "/v3/ip")
    assert sorted(call["body"]["ips"]) == sorted(o.value for o in (EVIL, DNS, QUIET))


def test_answers_are_stored_negative_ones_too(paid: SimServer) -> None:
    first = enrich(EVIL, QUIET)
    assert enrich(EVIL, QUIET) == first
    assert len(paid.calls("greynoise")) == 1


def test_a_week_that_ends_in_the_middle_leaves_the_rest_unchecked(vendor: SimServer) -> None:
    vendor.configure("greynoise", weekly_limit=1)
    answers = [answer for answer, _ in answers_of(EVIL, address("203.0.113.8"), QUIET).values()]
    assert answers.count(Answer.NOT_CHECKED) == 2
    assert Answer.ERROR not in answers


def test_what_a_paid_chunk_said_is_kept_when_the_next_is_refused(
    paid: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MOST_AT_ONCE", 2)
    paid.configure("greynoise", weekly_limit=3)
    others = [address(f"203.0.113.{n}") for n in (100, 101)]
    answers = [answer for answer, _ in answers_of(EVIL, DNS, *others).values()]
    assert sorted(answers).count(Answer.NOT_CHECKED) == 2
    assert len(answers) == 4


def test_a_paid_plan_with_a_limit_asks_one_by_one_and_never_more(
    vendor: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, "greynoise_default", "greynoise", vendor, password=KEY, plan="paid", lookups_per_day="2")
    vendor.configure("greynoise", plan="paid")
    answers = [answer for answer, _ in answers_of(EVIL, DNS, QUIET).values()]
    assert answers.count(Answer.NOT_CHECKED) == 1
    assert [(c["method"], c["status"]) for c in vendor.calls("greynoise")] == [("GET", 200), ("GET", 200)]


def test_one_refused_address_costs_itself_only(paid: SimServer) -> None:
    """GreyNoise refuses the whole call for it; then the call is halved."""
    refused = address("198.51.100.1")
    assert answers_of(EVIL, refused, QUIET) == {
        EVIL.value: (Answer.LISTED, 100),
        refused.value: (Answer.ERROR, None),
        QUIET.value: (Answer.NOT_LISTED, 0),
    }


def test_an_address_that_the_answer_passes_over_is_not_clean(paid: SimServer) -> None:
    paid.fault("greynoise", "merge", patch={"request_metadata": {"ips_not_found": []}})
    answers = answers_of(EVIL, QUIET)
    assert answers == {EVIL.value: (Answer.LISTED, 100), QUIET.value: (Answer.ERROR, None)}


@pytest.mark.parametrize(
    ("kind", "options"),
    [("status", {"status": 503}), ("merge", {"patch": {"data": None}})],
    ids=["503", "no-data"],
)
def test_a_broken_paid_call_stops_nothing_and_is_never_clean(
    paid: SimServer, kind: str, options: dict[str, Any]
) -> None:
    paid.fault("greynoise", kind, times=-1, **options)
    assert set(answers_of(EVIL, DNS).values()) == {(Answer.ERROR, None)}
