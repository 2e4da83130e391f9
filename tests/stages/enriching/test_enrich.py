"""The enrichment as a whole: what reaches a provider, what is left, and who finishes it, with real providers' operators
against their simulators and the DAG's own tasks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG

from include.simulators.abuseipdb import AbuseIpdbSimulator
from include.soar.extract.findings import observe
from include.soar.model import (
    Answer,
    CaseBatch,
    Decision,
    FetchBatch,
    Finding,
    Observable,
    Reputation,
    ReputationBatch,
    Role,
    Severity,
    Standing,
    Window,
)
from tests.conftest import ROOT
from tests.soar.deciding import blocked, decided
from tests.soar.examples import address, finding, mention, reputation
from tests.stages.controls import POLICY, PROTECTED
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.decide import Decide, counts
from threat_response.stages.enrich import Enrich
from threat_response.stages.extract import Extract
from threat_response.stages.open_incidents import OpenIncidents
from threat_response.stages.update_incidents import UpdateIncidents
from threat_response.vendors.urlhaus import api as urlhaus_api

EVIL, WORSE, CLEAN, CLAIMED = (address(f"203.0.113.{n}") for n in (7, 8, 9, 10))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def vendor(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimServer:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path / "home"))
    connect(monkeypatch, "abuseipdb_default", "abuseipdb", sim, password=AbuseIpdbSimulator.settings["api_key"])
    connect(monkeypatch, "cyware_respond_default", "cyware_respond", sim, login="sim-access", password="sim-secret")
    worst = {"abuseConfidenceScore": 92, "totalReports": 31, "numDistinctUsers": 7}
    sim.seed("abuseipdb", {"addresses": {EVIL.value: worst}, "public_networks": ["203.0.113.0/24", "192.0.2.0/24"]})
    return sim


#: Moves our clock to an instant, where it stops. The providers' and Respond's go on as ever.
Clock = Callable[[datetime], None]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return lambda instant: monkeypatch.setattr(settings, "now", lambda: instant)


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    def lay_over(text: str) -> None:
        (tmp_path / "changes.yaml").write_text(text)
        monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{POLICY}:{tmp_path / 'changes.yaml'}")

    return lay_over


def context(run_type: str = "scheduled", run_id: str = "run-1", **params: Any) -> Any:
    run = SimpleNamespace(
        run_type=run_type, run_id=run_id, dag_id="response", run_after=settings.now(), start_date=None
    )
    return {"dag_run": run, "params": params, "ti": SimpleNamespace(xcom_push=lambda **_: None)}


def event(uid: str, *observables: Observable, role: Role = Role.ATTACKER, **more: Any) -> Finding:
    text = " ".join(o.value for o in observables)
    return finding(uid, **{"seen": settings.now() - HOUR, "mentions": (mention(text, role),)} | more)


def last_hour() -> Window:
    end = settings.now().replace(minute=0, second=0, microsecond=0)
    return Window(start_at=end - HOUR, end_at=end, chosen_by="a test")


def case_of(*findings: Finding) -> dict[str, Any]:
    return CaseBatch(window=last_hour(), findings=findings, observed=observe(findings)).to_json()


def enrich(case: dict[str, Any], run: Any = None, **more: Any) -> dict[str, Reputation]:
    batch = Enrich(vendor="abuseipdb", task_id="abuseipdb", case=case, **more).execute(run or context())
    return {r.observable.value: r for r in ReputationBatch.model_validate(batch).reputations}


def asked(vendor: SimServer) -> list[str]:
    return [dict(call["query"])["ipAddress"] for call in vendor.calls("abuseipdb", path="check")]


# --- what reaches a provider -------------------------------------------------------------------------------------


def test_what_is_too_restricted_private_or_ours_never_reaches_the_provider(
    vendor: SimServer, rules: Callable[[str], None]
) -> None:
    rules("enrichment: {tlp: {sources: {akamai_sia: RED}}}")
    own, private = address(PROTECTED), address("10.0.0.1")
    red = event("sia", EVIL, WORSE, own, source="akamai_sia")
    answers = enrich(case_of(red, event("api", WORSE, CLEAN, private)))
    assert asked(vendor) == [CLEAN.value]  # WORSE was in the restricted finding as well
    assert not any(PROTECTED in str(call) or "10.0.0.1" in str(call) for call in vendor.calls("abuseipdb"))
    for value in (EVIL, WORSE):
        assert answers[value.value].answer is Answer.NOT_CHECKED
        assert answers[value.value].summary == "TLP:RED is above TLP:GREEN, the most that abuseipdb may see"
        assert answers[value.value].retry_at is None  # no later run is to try again
    assert {answers[o.value].answer for o in (own, private)} == {Answer.NOT_APPLICABLE}


def test_a_provider_may_be_trusted_with_more(vendor: SimServer, rules: Callable[[str], None]) -> None:
    rules("enrichment: {tlp: {findings: AMBER, providers: {abuseipdb: AMBER+STRICT}}}")
    assert enrich(case_of(event("1", EVIL)))[EVIL.value].answer is Answer.LISTED


def test_a_word_that_is_no_traffic_light_is_refused(rules: Callable[[str], None]) -> None:
    rules("enrichment: {tlp: {findings: WHITE}}")
    with pytest.raises(ValueError, match=r"enrichment\.tlp\.findings: .*'CLEAR', 'GREEN'"):
        settings.policy()


def test_the_questions_that_are_worth_most_come_first(vendor: SimServer) -> None:
    vendor.configure("abuseipdb", daily_limits={"check": 3})
    quiet, mentioned = address("203.0.113.1"), address("203.0.113.2")
    case = case_of(
        event("high", EVIL, WORSE, CLEAN),
        event("low", quiet, severity=Severity.LOW),
        event("words", mentioned, role=Role.MENTIONED),
    )
    listed = ReputationBatch(provider="list_feed", reputations=(reputation(WORSE, 100, provider="list_feed"),))
    answers = enrich(case, local={"list_feed": listed.to_json(), "another": None})
    assert asked(vendor)[0] == WORSE.value
    assert sorted(asked(vendor)) == sorted(o.value for o in (EVIL, WORSE, CLEAN))
    assert {answers[o.value].answer for o in (quiet, mentioned)} == {Answer.NOT_CHECKED}
    assert vendor.state("abuseipdb")["used_today"] == {"check": 3}


def test_two_workers_and_a_backfill_stay_within_the_keys_day(vendor: SimServer) -> None:
    """A key that may do less than the free plan: the first answer's header tells, and nobody has to be refused."""
    vendor.configure("abuseipdb", daily_limits={"check": 60})
    enrich(case_of(event("first", EVIL)))
    settings.ledger().close()
    values = [address(f"203.0.113.{n}") for n in range(20, 200)]

    def work(number: int) -> int:
        run = context("backfill" if number == 2 else "scheduled", run_id=f"run-{number}")
        answers = enrich(case_of(event(f"f{number}", *values[number * 60 : number * 60 + 60])), run)
        return sum(r.score is not None for r in answers.values())

    with ThreadPoolExecutor(3) as pool:
        answered = list(pool.map(work, range(3)))
    assert sum(answered) == 59
    assert answered[2] <= 42
    assert {call["status"] for call in vendor.calls("abuseipdb")} == {200}
    assert vendor.state("abuseipdb")["used_today"] == {"check": 60}


# --- what somebody makes up takes no quota from what can be blocked ----------------------------------------------


def flood(count: int, **more: Any) -> Finding:
    """One cheap event: a header with so many addresses."""
    values = [address(f"45.9.{n // 250}.{n % 250}") for n in range(count)]
    return event("flood", *values, **{"role": Role.CLAIM, "severity": Severity.LOW} | more)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"severity": Severity.CRITICAL},
        {"severity": Severity.CRITICAL, "role": Role.MENTIONED},
        {"severity": Severity.CRITICAL, "role": Role.VICTIM},
        {"severity": Severity.MEDIUM, "role": Role.ATTACKER},
    ],
    ids=["claimed, low", "claimed, critical", "mentioned, critical", "victim, critical", "attackers, medium"],
)
def test_one_cheap_event_leaves_quota_for_a_later_attacker(vendor: SimServer, more: dict[str, Any], at: Clock) -> None:
    """1a, V7: 1,200 addresses in the first hour, with a key of 100 a day; a critical attacker in the second."""
    vendor.configure("abuseipdb", daily_limits={"check": 100})
    now = settings.now()
    first = enrich(case_of(flood(1_200, **more)))
    assert len(asked(vendor)) == 50
    why = {r.summary for r in first.values() if r.answer is Answer.NOT_CHECKED}
    assert all("kept for possible blocks" in words for words in why), why
    at(now + HOUR)
    later = enrich(
        case_of(event("attack", EVIL, severity=Severity.CRITICAL), flood(1_200, **more)), context(run_id="2")
    )
    assert later[EVIL.value].answer is Answer.LISTED
    assert len(asked(vendor)) == 51, "and nothing more of the flood"


def test_one_address_that_is_an_attacker_elsewhere_does_not_lift_a_low_finding(vendor: SimServer) -> None:
    """1a: claimed in the critical finding and the attacker of a low one is not the attacker of a critical one."""
    vendor.configure("abuseipdb", daily_limits={"check": 4})
    claimed = event("critical", CLAIMED, WORSE, CLEAN, role=Role.CLAIM, severity=Severity.CRITICAL)
    low = event("low", CLAIMED, WORSE, CLEAN, severity=Severity.LOW)
    attack = event("attack", EVIL)
    assert enrich(case_of(claimed, low, attack))[EVIL.value].answer is Answer.LISTED
    assert len(asked(vendor)) == 2, "the attacker, and one of the others: half of the day is kept"


def test_a_wrong_key_costs_one_call(vendor: SimServer) -> None:
    vendor.configure("abuseipdb", api_key="another")
    answers = enrich(case_of(event("attack", EVIL, WORSE), event("low", CLEAN, severity=Severity.LOW)))
    assert {r.answer for r in answers.values()} == {Answer.ERROR}
    assert len(asked(vendor)) == 1


def test_how_much_is_kept_is_the_policys(vendor: SimServer, rules: Callable[[str], None]) -> None:
    rules("enrichment: {acting_share: 0.9}")
    vendor.configure("abuseipdb", daily_limits={"check": 100})
    enrich(case_of(flood(200)))
    assert len(asked(vendor)) == 10
    rules("enrichment: {acting_share: 0}")
    enrich(case_of(flood(200)), context(run_id="2"))
    assert len(asked(vendor)) == 100


def test_a_network_that_is_only_claimed_is_not_asked_about_from_what_is_kept(
    vendor: SimServer, monkeypatch: pytest.MonkeyPatch, rules: Callable[[str], None]
) -> None:
    """1a: `check-block` has a quota of its own, which claims of many networks would use up."""
    key = AbuseIpdbSimulator.settings["api_key"]
    connect(monkeypatch, "abuseipdb_default", "abuseipdb", vendor, password=key, check_block_from="2")
    of_each = ", ".join(f"{{name: {name}, calls: 4, seconds: 86400}}" for name in ("check", "check-block"))
    rules(f"enrichment: {{quotas: {{abuseipdb: [{of_each}]}}}}")
    pairs = [address(f"45.9.{n}.{last}") for n in range(8) for last in (1, 2)]
    case = case_of(event("claims", *pairs, role=Role.CLAIM), event("attack", EVIL, WORSE, severity=Severity.CRITICAL))
    assert enrich(case)[EVIL.value].answer is Answer.LISTED
    blocks = [dict(call["query"])["network"] for call in vendor.calls("abuseipdb", path="check-block")]
    assert blocks[0] == "203.0.113.0/24"
    assert len(blocks) == 2


def test_one_finding_of_many_attackers_does_not_come_before_all_of_another(vendor: SimServer) -> None:
    vendor.configure("abuseipdb", daily_limits={"check": 150})
    many = event("many", *(address(f"192.0.2.{n}") for n in range(1, 250)), severity=Severity.CRITICAL)
    assert enrich(case_of(many, event("one", EVIL)))[EVIL.value].answer is Answer.LISTED


# --- point in time -----------------------------------------------------------------------------------------------


def test_a_frozen_run_takes_what_was_known_when_its_window_was_first_decided(vendor: SimServer) -> None:
    now, then = settings.now(), settings.now() - 2 * DAY
    case = case_of(event("1", EVIL, CLEAN))
    ledger = settings.ledger()
    ledger.windows.record(fetched(), run_id="run-1", now=then)
    # Asked a little after the window's end, and decided on a little later; nobody could be asked about CLEAN.
    early = reputation(EVIL, 40, known_at=then)
    ledger.answers.store([(early, DAY)])
    ledger.windows.record_decided(CaseBatch.model_validate(case).window, now=then + timedelta(minutes=5))
    assert enrich(case)[EVIL.value].score == 92
    said = ReputationBatch(provider="abuseipdb", reputations=tuple(enrich(case).values())).to_json()
    Decide(task_id="decide", case=case, answers={"abuseipdb": said}).execute(context())
    calls = len(vendor.calls("abuseipdb"))
    frozen = enrich(case, context(answers="frozen"))
    assert frozen[EVIL.value] == early
    assert frozen[CLEAN.value].answer is Answer.NOT_CHECKED
    assert frozen[CLEAN.value].summary.startswith("frozen: nothing was known at ")
    assert frozen[CLEAN.value].retry_at is None
    assert len(vendor.calls("abuseipdb")) == calls == 2
    changes = [(b.score if b else None, a.score) for b, a in ledger.answers.changes(now - DAY, settings.now())]
    assert changes == [(40, 92), (None, 0)]


def test_what_nobody_knows_about_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="answers: 'old' is not fresh or frozen"):
        enrich(case_of(event("1", EVIL)), context(answers="old"))


# --- nothing is lost ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dag() -> DAG:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return DagBag(dag_folder=str(ROOT / "dags")).dags["api_threat_response"]


def due(run: Any) -> list[Finding]:
    return Extract(task_id="extract", batches=[]).carried_over(Run.of(run))


def fetched(*findings: Finding) -> FetchBatch:
    fields = {"source": "akamai_api_security", "window": last_hour(), "pages": 1, "records": len(findings)}
    return FetchBatch.model_validate(fields | {"archive": (), "digest": "d", "findings": findings})


def decide(case: dict[str, Any], answers: dict[str, Reputation]) -> dict[str, Any]:
    said = {"abuseipdb": ReputationBatch(provider="abuseipdb", reputations=tuple(answers.values())).to_json()}
    return decided(case, said, settings.policy(), now=settings.now()).decision.to_json()


def whole_run(dag: DAG, run: Any, *findings: Finding) -> tuple[dict[str, Any], dict[str, Any]]:
    """The DAG's own tasks from extract to the incidents' update; case and decision."""
    case = Extract(task_id="extract", batches=[fetched(*findings).to_json()]).execute(run)
    said = Enrich(vendor="abuseipdb", task_id="abuseipdb", case=case).execute(run)
    decision = Decide(task_id="decide", case=case, answers={"abuseipdb": said}).execute(run)
    both = {"vendor": "cyware_respond", "case": case, "decision": decision}
    opened = OpenIncidents(task_id="open", **both).execute(run)
    UpdateIncidents(task_id="update", incidents=opened, **both).execute(run)
    return case, decision


def verdicts(decision: dict[str, Any]) -> dict[str, str]:
    return {v["observable"]["value"]: v["standing"] for v in decision["verdicts"]}


def told(vendor: SimServer) -> list[list[str]]:
    """The comments of each incident."""
    state = vendor.state("cyware_respond")
    return [
        [c["description"] for c in state["comments"].get(incident["unique_id"], [])] for incident in state["incidents"]
    ]


def test_what_a_spent_quota_left_is_finished_by_a_later_run_and_told_in_the_same_incident(
    vendor: SimServer, dag: DAG, at: Clock
) -> None:
    start = settings.now()
    at(start)
    vendor.configure("abuseipdb", used_elsewhere={"check": 1000})  # a 429 to our first call
    attack = event("attack", EVIL)
    case, decision = whole_run(dag, context(), attack, event("small", CLEAN, severity=Severity.LOW))
    assert [call["status"] for call in vendor.calls("abuseipdb")] == [429]
    assert verdicts(decision)[EVIL.value] == Standing.UNKNOWN
    assert [len(comments) for comments in told(vendor)] == [1]
    assert "Gave no answer" in told(vendor)[0][0]

    # While the day is spent nobody calls, and nothing is carried over in vain.
    at(start + timedelta(seconds=1))
    case, _ = whole_run(dag, context(run_id="run-2"), event("other", WORSE, severity=Severity.LOW))
    assert [f["uid"] for f in case["findings"]] == ["other"]
    assert len(vendor.calls("abuseipdb")) == 1

    # A run that only plans its blocks does not take it up: it could not act on it, and nobody would then.
    at(start + DAY)
    vendor.configure("abuseipdb", used_elsewhere={})
    for run in (context("backfill"), context(effects="plan"), context(answers="frozen")):
        assert due(run) == []
    case, decision = whole_run(dag, context(run_id="run-3"), event("new", WORSE, severity=Severity.LOW))
    assert case["carried_over"] == ["attack"]
    assert counts(CaseBatch.model_validate(case), Decision.model_validate(decision))["carried_over"] == 1
    assert verdicts(decision)[EVIL.value] == Standing.MALICIOUS
    (comments,) = told(vendor)  # no second incident
    assert len(comments) == 2
    assert "Gave no answer" not in comments[1]
    # It was no finding of the later window, but of the one whose run had it first.
    (owner,) = settings.ledger().windows.claim_findings([attack], window_key="mine", now=settings.now()).values()
    assert owner.endswith(f"-{start:%Y%m%dT%H}0000Z")

    case, _ = whole_run(dag, context(run_id="run-4"))
    assert (case["findings"], due(context())) == ([], [])
    assert told(vendor) == [comments]


def test_a_backfill_that_only_plans_leaves_nothing_to_others(vendor: SimServer, dag: DAG, at: Clock) -> None:
    start = settings.now()
    at(start)
    vendor.configure("abuseipdb", used_elsewhere={"check": 1000})
    whole_run(dag, context("backfill"), event("old", EVIL))
    at(start + DAY)
    assert due(context()) == []


# --- all at once -------------------------------------------------------------------------------------------------


def test_with_every_provider_silent_in_its_own_way_the_run_goes_on_and_nothing_is_blocked(
    vendor: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: dict[str, tuple[str, dict[str, Any]]] = {
        "virustotal": ("status", {"status": 503}),
        "greynoise": ("html", {"status": 200}),
        "alienvault_otx": ("status", {"status": 403}),
        "urlhaus": ("delay", {"seconds": 0.5}),
        "threatfox": ("reset", {}),
    }
    monkeypatch.setattr(urlhaus_api, "TIMEOUT_SECONDS", 0.05)
    vendor.configure("abuseipdb", used_elsewhere={"check": 1000})
    for provider, (kind, options) in faults.items():
        connect(monkeypatch, f"{provider}_default", provider, vendor, password="a-key-of-somebody")
        vendor.fault(provider, kind, times=-1, **options)
    case = case_of(event("1", EVIL, CLEAN, severity=Severity.CRITICAL))
    answers: dict[str, Any] = {"list_feed": None}  # its task failed
    for provider in ("abuseipdb", *faults):
        answers[provider] = Enrich(task_id=provider, vendor=provider, case=case).execute(context())
        said = ReputationBatch.model_validate(answers[provider]).reputations
        assert {r.score for r in said} == {None}, provider
        assert {r.answer for r in said} <= {Answer.ERROR, Answer.NOT_CHECKED}, provider
        assert all(r.retry_at or r.answer is Answer.ERROR for r in said), provider
    made = decided(case, answers, settings.policy(), now=settings.now()).decision
    assert (blocked(made), made.held) == ([], ())
    decision = made.to_json()
    assert set(verdicts(decision).values()) == {Standing.UNKNOWN}
    assert set(decision["silent_providers"]) == set(answers)
