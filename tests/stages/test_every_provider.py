"""What every provider that is asked over HTTP promises, by stage 3's one operator against each one's simulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from include.soar.model import Answer, CaseBatch, Observable, ObservableType, Reputation, ReputationBatch
from tests.soar.examples import address, domain, observed, window
from tests.stages.controls import POLICY, PROTECTED, context
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.registry import SERVES
from threat_response.stages.enrich import Enrich
from threat_response.transport.form import vendor_of

EVIL, CLEAN, SIX = address("203.0.113.7"), address("203.0.113.9"), address("2001:db8::1")
NAME = domain("evil.example")
URL = Observable(type=ObservableType.URL, value="http://evil.example/a")
MAIL = Observable(type=ObservableType.EMAIL, value="a@evil.example")
ASN = Observable(type=ObservableType.ASN, value="AS64496")
MD5, SHA1, SHA256, SHA512 = (
    Observable(type=ObservableType.FILE, value=value) for value in ("a1" * 16, "a2" * 20, "a3" * 32, "a4" * 64)
)
#: Every kind of value. No provider is asked about the last two: one is ours, one is private.
EVERYTHING = (
    *(EVIL, CLEAN, SIX, NAME, URL, MAIL, ASN, MD5, SHA1, SHA256, SHA512),
    *(address(PROTECTED), address("10.0.0.1")),
)
NETWORKS_IPV4, NETWORKS = ["203.0.113.0/24"], ["203.0.113.0/24", "2001:db8::/32"]
#: Every answer that an HTTP server can spoil.
SPOILED: list[tuple[str, dict[str, Any]]] = [
    ("status", {"status": 401}),
    ("status", {"status": 403}),
    ("status", {"status": 503}),
    ("html", {"status": 200}),
    ("html", {"status": 404}),
    ("truncate", {}),
    ("reset", {}),
]


@dataclass(frozen=True)
class Case:
    """
    One provider, as its simulator is to answer.

    :param said: the score of each value that it is to be asked about, badness or 0
    :param asked: the values that a call in the simulator's log asked about
    :param refuse: a fault by which it refuses the value of ``NAME`` or of ``CLEAN``, and that value
    :param odd: further answers of its own that say nothing, as patches
    """

    seed: dict[str, Any]
    said: Mapping[Observable, int]
    asked: Callable[[dict[str, Any]], Sequence[str]]
    refuse: tuple[Observable, str, dict[str, Any]]
    odd: tuple[dict[str, Any], ...] = ()
    knobs: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


_VT_BAD = {"last_analysis_stats": {"malicious": 8, "harmless": 60}}
_VT_SEEN = {"last_analysis_stats": {"malicious": 0, "harmless": 60}}
_PULSES = [{"author": "a"}, {"author": "b"}]
_MISP = [
    {"type": "ip-src", "value": EVIL.value},
    {"type": "ip-dst", "value": SIX.value},
    {"type": "hostname", "value": NAME.value},
    {"type": "filename|md5", "value": f"x.exe|{MD5.value}"},
]
CASES: dict[str, Case] = {
    "abuseipdb": Case(
        seed={
            "addresses": {
                EVIL.value: {"abuseConfidenceScore": 92, "totalReports": 31, "numDistinctUsers": 7},
                SIX.value: {"abuseConfidenceScore": 40, "totalReports": 2, "numDistinctUsers": 1},
            },
            "public_networks": NETWORKS,
        },
        said={EVIL: 92, CLEAN: 0, SIX: 40},
        asked=lambda call: [dict(call["query"])["ipAddress"]],
        refuse=(CLEAN, "status", {"status": 422, "skip": 1}),
        odd=({"data": {"abuseConfidenceScore": None}}, {"data": {"ipAddress": "203.0.113.200"}}),
    ),
    "virustotal": Case(
        seed={
            "ip_addresses": {EVIL.value: _VT_BAD, CLEAN.value: _VT_SEEN},
            "domains": {NAME.value: _VT_BAD},
            "urls": {URL.value: _VT_BAD},
            "files": {SHA256.value: _VT_BAD},
        },
        said={EVIL: 80, CLEAN: 0, SIX: 0, NAME: 80, URL: 80, MD5: 0, SHA1: 0, SHA256: 80},
        asked=lambda call: [call["path"].rpartition("/")[2]],
        refuse=(NAME, "status", {"status": 400, "path": "/domains/"}),
        odd=(
            {"data": {"attributes": {"last_analysis_stats": {"malicious": None}}}},
            {"data": {"id": "203.0.113.200"}},
        ),
        knobs={"plan": "premium"},
        extra={"plan": "premium"},
    ),
    "greynoise": Case(
        seed={
            "addresses": {
                EVIL.value: {"internet_scanner_intelligence": {"classification": "malicious"}},
                CLEAN.value: {"business_service_intelligence": {"name": "Example DNS", "trust_level": "1"}},
            },
            "public_networks": NETWORKS_IPV4,
        },
        said={EVIL: 100, CLEAN: 0},
        asked=lambda call: [call["path"].rpartition("/")[2]],
        refuse=(CLEAN, "status", {"status": 400, "path": CLEAN.value}),
        odd=({"classification": "odd"},),
    ),
    "misp": Case(
        seed={
            "events": [
                {"info": "a campaign", "threat_level_id": "2", "Attribute": [{**one, "to_ids": True} for one in _MISP]}
            ]
        },
        said={EVIL: 75, CLEAN: 0, SIX: 75, NAME: 75, URL: 0, MAIL: 0, MD5: 75, SHA1: 0, SHA256: 0, SHA512: 0},
        asked=lambda call: call["body"]["value"],
        refuse=(CLEAN, "status", {"status": 400, "body": f'"{CLEAN.value}"', "times": -1}),
        odd=({"response": {"Attribute": None}},),
        extra={"values_a_call": 2},
    ),
    "alienvault_otx": Case(
        seed={
            "indicators": {EVIL.value: {"pulses": _PULSES}, NAME.value: {"pulses": _PULSES[:1]}},
            "public_networks": NETWORKS,
        },
        said={EVIL: 30, CLEAN: 0, SIX: 0, NAME: 20, URL: 0, MD5: 0, SHA1: 0, SHA256: 0},
        asked=lambda call: [call["path"].split("/", 5)[5].rpartition("/")[0]],
        refuse=(NAME, "status", {"status": 400, "path": NAME.value}),
        odd=({"validation": None}, {"indicator": "203.0.113.200"}, {"pulse_info": None}),
    ),
    "urlhaus": Case(
        seed={"urls": [{"url": "http://203.0.113.7/a"}, {"url": "http://evil.example/b", "url_status": "offline"}]},
        said={EVIL: 90, CLEAN: 0, NAME: 50, URL: 0, MD5: 0, SHA256: 0},
        asked=lambda call: [call["body"].partition("=")[2]],
        refuse=(NAME, "merge", {"body": f"host={NAME.value}", "patch": {"query_status": "invalid_host"}}),
        odd=({"query_status": None}, {"query_status": "unknown_auth_key"}),
    ),
    "threatfox": Case(
        seed={
            "iocs": [
                {"ioc": "203.0.113.7:443", "confidence_level": 75},
                {"ioc": "evil.example", "confidence_level": 100},
            ]
        },
        said={EVIL: 75, CLEAN: 0, NAME: 100, URL: 0, MD5: 0, SHA256: 0},
        asked=lambda call: [call["body"].get("search_term") or call["body"]["hash"]],
        refuse=(NAME, "merge", {"body": f'"{NAME.value}"', "patch": {"query_status": "illegal_search_term"}}),
        odd=(
            {"query_status": None},
            {"query_status": "unknown_auth_key"},
            {"query_status": "ok", "data": "a sentence"},
        ),
    ),
}


@dataclass
class Subject:
    name: str
    case: Case
    sim: SimServer

    def enrich(self, *observables: Observable) -> dict[Observable, Reputation]:
        found = tuple(observed(o) for o in observables)
        case = CaseBatch(window=window(), findings=(), observed=found).to_json()
        result = Enrich(vendor=self.name, task_id=self.name, case=case).execute(context())
        batch = ReputationBatch.model_validate(result)
        assert batch.provider == self.name
        assert len(batch.reputations) == len(observables)
        return {r.observable: r for r in batch.reputations}

    def asked(self) -> list[str]:
        return [value for call in self.sim.calls(self.name) for value in self.case.asked(call)]


@pytest.fixture(params=CASES)
def provider(
    request: pytest.FixtureRequest, sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Subject:
    return _connected(request.param, sim, monkeypatch, tmp_path)


def _connected(name: str, sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Subject:
    case = CASES[name]
    monkeypatch.setenv("THREAT_RESPONSE_POLICY", POLICY)
    monkeypatch.setenv("THREAT_RESPONSE_HOME", str(tmp_path))
    key = sim.world.simulators[name].knobs["api_key"]
    connect(monkeypatch, f"{name}_default", name, sim, password=key, **case.extra)
    sim.configure(name, **case.knobs)
    sim.seed(name, case.seed)
    return Subject(name, case, sim)


def test_every_provider_that_is_asked_is_here() -> None:
    assert set(CASES) == {name for name in SERVES["enrich"] if vendor_of(name).is_remote}


def test_what_it_knows_is_asked_about_once_and_nothing_else(provider: Subject) -> None:
    answers = provider.enrich(*EVERYTHING)
    said = provider.case.said
    assert {o: r.score for o, r in answers.items() if r.score is not None} == said
    assert {o: r.answer for o, r in answers.items() if o in said} == {
        o: Answer.LISTED if score else Answer.NOT_LISTED for o, score in said.items()
    }
    assert {r.answer for o, r in answers.items() if o not in said} == {Answer.NOT_APPLICABLE}
    assert all(r.summary for o, r in answers.items() if o not in said)
    asked = provider.asked()
    assert len(asked) == len(set(asked)) == len(said)
    assert not {PROTECTED, "10.0.0.1"} & set(asked)


def test_answers_are_stored_and_negative_ones_too(provider: Subject) -> None:
    first = {o: r for o, r in provider.enrich(*EVERYTHING).items() if r.score is not None}
    calls = len(provider.sim.calls(provider.name))
    assert {o: r for o, r in provider.enrich(*EVERYTHING).items() if r.score is not None} == first
    assert len(provider.sim.calls(provider.name)) == calls


def test_a_value_that_is_refused_costs_itself_only(provider: Subject) -> None:
    refused, kind, options = provider.case.refuse
    provider.sim.fault(provider.name, kind, **options)
    answers = provider.enrich(EVIL, refused)
    assert {o: r.answer for o, r in answers.items()} == {EVIL: Answer.LISTED, refused: Answer.ERROR}


def test_a_429_leaves_the_rest_unchecked_and_is_not_asked_on(provider: Subject) -> None:
    provider.sim.fault(provider.name, "status", status=429, times=-1)
    assert {r.answer for r in provider.enrich(EVIL, CLEAN).values()} == {Answer.NOT_CHECKED}
    assert len(provider.sim.calls(provider.name)) == 1


@pytest.mark.parametrize(
    ("kind", "options"), SPOILED, ids=[f"{kind}-{options.get('status', '')}" for kind, options in SPOILED]
)
def test_a_broken_provider_stops_nothing_and_is_never_clean(
    provider: Subject, kind: str, options: dict[str, Any]
) -> None:
    provider.sim.fault(provider.name, kind, times=-1, **options)
    answers = provider.enrich(EVIL, CLEAN)
    assert {(r.answer, r.score) for r in answers.values()} == {(Answer.ERROR, None)}
    assert len(provider.sim.calls(provider.name)) <= 4, "no more than a second try for each"


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, case in CASES.items() for n in range(len(case.odd))])
def test_an_answer_that_says_nothing_is_no_answer(
    name: str, number: int, sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    provider = _connected(name, sim, monkeypatch, tmp_path)
    sim.fault(name, "merge", times=-1, patch=provider.case.odd[number])
    answers = provider.enrich(EVIL, CLEAN)
    assert {(r.answer, r.score) for r in answers.values()} == {(Answer.ERROR, None)}
