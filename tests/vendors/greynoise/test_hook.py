"""GreyNoise's hook, over HTTP against the simulator."""

from __future__ import annotations

from typing import Any

import pytest

from include.simulators.greynoise import GreyNoiseSimulator
from include.soar.model import Answer
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unexpected
from tests.soar.examples import address
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.vendors.greynoise.hook import GreyNoiseHook

KEY = GreyNoiseSimulator.settings["api_key"]
EVIL, DNS, QUIET = address("203.0.113.7"), address("203.0.113.53"), address("203.0.113.99")
SEED = {
    "addresses": {
        EVIL.value: {"internet_scanner_intelligence": {"classification": "malicious", "tags": [{"name": "Mirai"}]}},
        DNS.value: {"business_service_intelligence": {"name": "Example DNS", "trust_level": "1"}},
    },
    "public_networks": ["203.0.113.0/24"],
}


@pytest.fixture
def vendor(sim: SimServer) -> SimServer:
    sim.seed("greynoise", SEED)
    return sim


@pytest.fixture
def hook(vendor: SimServer, monkeypatch: pytest.MonkeyPatch) -> GreyNoiseHook:
    connect(monkeypatch, "greynoise_default", "greynoise", vendor, password=KEY)
    return GreyNoiseHook()


@pytest.fixture
def paid(vendor: SimServer, monkeypatch: pytest.MonkeyPatch) -> GreyNoiseHook:
    connect(monkeypatch, "greynoise_default", "greynoise", vendor, password=KEY, plan="paid")
    vendor.configure("greynoise", plan="paid")
    return GreyNoiseHook()


@pytest.fixture
def keyless(vendor: SimServer, monkeypatch: pytest.MonkeyPatch) -> GreyNoiseHook:
    connect(monkeypatch, "greynoise_default", "greynoise", vendor)
    return GreyNoiseHook()


@pytest.mark.parametrize("plan", ["hook", "paid", "keyless"])
def test_lookup(vendor: SimServer, plan: str, request: pytest.FixtureRequest) -> None:
    hook: GreyNoiseHook = request.getfixturevalue(plan)
    answers = [hook.lookup(o) for o in (EVIL, DNS, QUIET)]
    assert [(r.observable, r.answer, r.score) for r in answers] == [
        (EVIL, Answer.LISTED, 100),
        (DNS, Answer.NOT_LISTED, 0),
        (QUIET, Answer.NOT_LISTED, 0),
    ]
    assert "Example DNS" in answers[1].tags
    path = "/v3/ip/" if plan == "paid" else "/v3/community/"
    assert [c["path"] for c in vendor.calls("greynoise")] == [path + o.value for o in (EVIL, DNS, QUIET)]


def test_lookup_many(paid: GreyNoiseHook, vendor: SimServer) -> None:
    answers = {r.observable: (r.answer, r.score) for r in paid.lookup_many([EVIL, DNS, QUIET])}
    assert answers == {EVIL: (Answer.LISTED, 100), DNS: (Answer.NOT_LISTED, 0), QUIET: (Answer.NOT_LISTED, 0)}
    assert len(vendor.calls("greynoise")) == 1


def test_a_question_is_no_write(paid: GreyNoiseHook) -> None:
    assert GreyNoiseHook(writes_allowed=False).lookup_many([EVIL])


def test_a_spent_week_says_when_it_returns(hook: GreyNoiseHook, vendor: SimServer) -> None:
    vendor.configure("greynoise", weekly_limit=1)
    hook.lookup(EVIL)
    with pytest.raises(RateLimited, match="weekly rate limit of 1") as caught:
        hook.lookup(EVIL)
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 7 * 86400


@pytest.mark.parametrize("plan", ["hook", "paid"])
def test_an_address_that_is_refused_costs_the_item(plan: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(Rejected, match="routable"):
        request.getfixturevalue(plan).lookup(address("198.51.100.1"))


def test_a_plan_that_leaves_out_what_we_need(paid: GreyNoiseHook, vendor: SimServer) -> None:
    vendor.configure("greynoise", restricted_fields=["cves", "raw_data"])
    assert paid.lookup(EVIL).score == 100
    assert len(paid.lookup_many([EVIL, QUIET])) == 2
    vendor.configure("greynoise", restricted_fields=["classification"])
    for ask in (lambda: paid.lookup(EVIL), lambda: paid.lookup_many([EVIL])):
        with pytest.raises(Unauthorized, match="plan leaves out"):
            ask()


@pytest.mark.parametrize("plan", ["hook", "paid"])
def test_what_the_vendor_refuses_costs_the_item(vendor: SimServer, plan: str, request: pytest.FixtureRequest) -> None:
    hook = request.getfixturevalue(plan)
    ask = (lambda: hook.lookup_many([EVIL, DNS])) if plan == "paid" else (lambda: hook.lookup(EVIL))
    vendor.fault("greynoise", "status", status=400)
    with pytest.raises(Rejected):
        ask()


def test_a_page_instead_of_the_404(hook: GreyNoiseHook, vendor: SimServer) -> None:
    vendor.fault("greynoise", "html", status=404)
    with pytest.raises(Unexpected):
        hook.lookup(QUIET)


def test_the_quotas_are_those_of_the_key(vendor: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def quotas(key: str | None = KEY, **extra: Any) -> list[str]:
        connect(monkeypatch, "greynoise_default", "greynoise", vendor, password=key, **extra)
        return [str(quota) for quota in GreyNoiseHook().quotas]

    assert quotas() == quotas(lookups_per_day="9000") == ["50 lookup a week"]
    assert quotas(None) == ["25 lookup a week"]
    assert quotas(plan="paid", lookups_per_day="") == []
    assert quotas(plan="paid", lookups_per_day="5000") == ["5,000 lookup a day"]
    for wrong in ({"plan": "v2"}, {"plan": "paid", "lookups_per_day": "many"}):
        with pytest.raises(Unauthorized, match=r"'v2'|'many'"):
            quotas(**wrong)


@pytest.mark.parametrize(
    ("plan", "message", "spent"),
    [
        ("hook", "greynoise: the key works; plan Community, until ", 0),
        ("paid", "greynoise: the paid lookup works; this test cost one", 1),
        ("keyless", "greynoise: the community lookup works; this test cost one", 1),
    ],
)
def test_the_connection_test(
    vendor: SimServer, plan: str, message: str, spent: int, request: pytest.FixtureRequest
) -> None:
    passed, said = request.getfixturevalue(plan).test_connection()
    assert passed
    assert said.startswith(message)
    assert vendor.state("greynoise")["used_this_week"] == spent


def test_a_community_key_for_a_paid_plan(paid: GreyNoiseHook, vendor: SimServer) -> None:
    vendor.configure("greynoise", plan="community")
    passed, message = paid.test_connection()
    assert (passed, message.split(":")[0]) == (False, "Missing grant")
