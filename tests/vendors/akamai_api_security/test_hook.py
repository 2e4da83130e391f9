"""The API Security hook over HTTP, against the simulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.simulators.akamai_api_security import AkamaiApiSecuritySimulator
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, Unexpected, VendorError
from tests.stages.controls import everything_logged
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.vendors.akamai_api_security import api
from threat_response.vendors.akamai_api_security.hook import AkamaiApiSecurityHook

PRODUCT = "akamai_api_security"
KNOBS = AkamaiApiSecuritySimulator.settings
START = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
END = START + timedelta(hours=1)


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def incident(number: int, seconds: float | None = None, **more: Any) -> dict[str, Any]:
    when = at(number if seconds is None else seconds)
    return {"id": f"i-{number:04d}", "severity": "High", "module": "Runtime", "detectionTime": when, **more}


def alert(number: int, seconds: float | None = None) -> dict[str, Any]:
    when = (START + timedelta(seconds=number if seconds is None else seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"id": f"a-{number:04d}", "severity": "Low", "alert_type": "UserBehaviorAlert", "triggered_at": when}


def ids(pages: list[api.Read]) -> list[str]:
    return sorted(record["id"] for page in pages for _, record in page.records)


def user(monkeypatch: pytest.MonkeyPatch, url: Any, **more: Any) -> AkamaiApiSecurityHook:
    options = {"password": KNOBS["user_token"], **more}
    connect(monkeypatch, "akamai_api_security_default", PRODUCT, url, **options)
    return AkamaiApiSecurityHook(writes_allowed=False)


def service(monkeypatch: pytest.MonkeyPatch, url: Any, **more: Any) -> AkamaiApiSecurityHook:
    return user(
        monkeypatch, url, **{"login": KNOBS["client_id"], "password": KNOBS["client_secret"], "page_size": 10, **more}
    )


def neosec(monkeypatch: pytest.MonkeyPatch, url: Any, **more: Any) -> AkamaiApiSecurityHook:
    options = {"password": KNOBS["api_key"], "family": "neosec", "tenant_key": KNOBS["tenant"], **more}
    return user(monkeypatch, url, **options)


# --- noname --------------------------------------------------------------------------------------------------


def test_a_user_token_reads_every_page_of_both_lists(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [incident(n) | {"id": f"f-{n}", "module": "Posture"} for n in range(3)]
    sim.seed(PRODUCT, {"incidents": [incident(n) for n in range(120)], "findings": findings, "alerts": []})
    pages = user(monkeypatch, sim).records(START, END)
    assert len(pages) == 4  # 50 + 50 + 20 incidents, 3 findings
    assert ids(pages) == sorted([f"i-{n:04d}" for n in range(120)] + ["f-0", "f-1", "f-2"])
    assert {kind for kind, _ in pages[0].records} == {"incident"}
    assert {kind for kind, _ in pages[3].records} == {"finding"}
    assert len(json.loads(pages[0].body)["entities"]) == 50
    assert not sim.calls(PRODUCT, path="/auth/token")


def test_the_window_is_half_open_whatever_the_vendor_means(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [incident(0, -0.001), incident(1, 0), incident(2, 3599.999), incident(3, 3600)]
    sim.seed(PRODUCT, {"incidents": records, "findings": [], "alerts": []})
    assert ids(user(monkeypatch, sim).records(START, END)) == ["i-0001", "i-0002"]


def test_an_empty_window_is_not_an_error(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [page.records for page in user(monkeypatch, sim).records(START, END)] == [[], []]


@pytest.mark.parametrize("status", [200, 201])
def test_a_service_account_asks_for_one_token(sim: SimServer, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    sim.configure(PRODUCT, token_status=status)
    sim.seed(PRODUCT, {"incidents": [incident(n) for n in range(25)], "findings": [], "alerts": []})
    assert len(ids(service(monkeypatch, sim).records(START, END))) == 25
    assert len(sim.calls(PRODUCT, path="/auth/token")) == 1


def test_a_token_that_expires_in_the_middle_is_renewed_once(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.seed(PRODUCT, {"incidents": [incident(n) for n in range(25)], "findings": [], "alerts": []})
    hook = service(monkeypatch, sim)
    hook.ping()
    sim.world.clock.advance(KNOBS["token_seconds"] + 1)  # the vendor's clock: the first token is over
    sim.fault(PRODUCT, "status", path="/incidents", status=401, skip=2)  # and the second ends before the third page
    assert len(ids(hook.records(START, END))) == 25
    assert len(sim.calls(PRODUCT, path="/auth/token")) == 3


def test_a_token_that_is_refused_again_is_a_persons_work(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.fault(PRODUCT, "status", path="/incidents", status=401, times=-1)
    with pytest.raises(Unauthorized):
        service(monkeypatch, sim).records(START, END)
    assert len(sim.calls(PRODUCT, path="/auth/token")) == 2
    assert len(sim.calls(PRODUCT, path="/incidents")) == 2


def test_an_expired_user_token_is_not_asked_twice(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unauthorized):
        user(monkeypatch, sim, password="old-token").records(START, END)
    assert len(sim.calls(PRODUCT)) == 1


@pytest.mark.parametrize("place", ["/api/v4/elsewhere", "api/v4/elsewhere", "//api/v4/elsewhere"])
def test_the_place_of_tokens_can_be_set(sim: SimServer, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    with pytest.raises(Unauthorized):  # the simulator gives no tokens there
        service(monkeypatch, sim, auth_path=place).records(START, END)
    assert [call["path"] for call in sim.calls(PRODUCT)] == ["/api/v4/elsewhere"]


def test_a_page_missing_from_the_middle_is_a_short_read(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.seed(PRODUCT, {"incidents": [incident(n) for n in range(25)], "findings": [], "alerts": []})
    sim.fault(PRODUCT, "empty", path="/incidents", key="entities", skip=1)
    with pytest.raises(Unexpected, match="short read"):
        service(monkeypatch, sim).records(START, END)


def test_a_list_without_end_is_given_up(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MAX_PAGES", 3)
    sim.seed(PRODUCT, {"incidents": [incident(n) for n in range(10)], "findings": [], "alerts": []})
    sim.fault(PRODUCT, "merge", path="/incidents", patch={"moreEntities": True, "entities": [incident(1)]}, times=-1)
    with pytest.raises(Unexpected, match="no end after 3 pages"):
        service(monkeypatch, sim).records(START, END)


def test_a_list_that_shifts_during_the_read_gives_a_record_twice(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.seed(PRODUCT, {"incidents": [incident(n) for n in range(20)], "findings": [], "alerts": []})
    hook = service(monkeypatch, sim)
    seen = hook.exchange

    def arrives_late(request: Any) -> Any:
        response = seen(request)
        if dict(request.params).get("offset") == "0" and request.path.endswith("incidents"):
            sim.seed(PRODUCT, {"incidents": [incident(99)], "findings": [], "alerts": []})
        return response

    monkeypatch.setattr(hook, "exchange", arrives_late)
    read = ids(hook.records(START, END))
    assert len(read) == 21
    assert len(set(read)) == 20  # every one that was there at the start; the late one is the overlap's


def test_return_fields_can_be_left_out(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for off in (False, "false"):
        assert len(user(monkeypatch, sim, return_fields=off).records(START, END)) == 2
    assert not [c for c in sim.calls(PRODUCT) if "returnFields" in dict(c["query"])]


# --- neosec --------------------------------------------------------------------------------------------------


def test_alerts_are_read_to_their_total(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.seed(PRODUCT, {"incidents": [], "findings": [], "alerts": [alert(n) for n in range(120)]})
    pages = neosec(monkeypatch, sim).records(START, END)
    assert len(pages) == 3
    assert ids(pages) == [f"a-{n:04d}" for n in range(120)]
    assert [call["body"]["offset"] for call in sim.calls(PRODUCT)] == [0, 50, 100]


def test_no_alert_of_the_first_second_is_lost_and_none_of_the_next_window_is_read(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [-1.5, -0.000001, 0, 0.5, 3599.999999, 3600, 7200]
    sim.seed(PRODUCT, {"incidents": [], "findings": [], "alerts": [alert(n, second) for n, second in enumerate(times)]})
    assert ids(neosec(monkeypatch, sim).records(START, END)) == ["a-0002", "a-0003", "a-0004"]


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_an_alert_page_that_is_missing_is_a_short_read(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, skip: int
) -> None:
    sim.seed(PRODUCT, {"incidents": [], "findings": [], "alerts": [alert(n) for n in range(120)]})
    sim.fault(PRODUCT, "empty", key="items", skip=skip)
    with pytest.raises(Unexpected, match="short read"):
        neosec(monkeypatch, sim).records(START, END)


def test_a_foreign_tenant_is_refused(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((Unauthorized, Rejected)):
        neosec(monkeypatch, sim, tenant_key="somebody-else").records(START, END)


# --- faults, the same for all ----------------------------------------------------------------------------------

FAMILIES = pytest.mark.parametrize("make", [user, service, neosec], ids=["user", "service", "neosec"])


@FAMILIES
@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        pytest.param("status", {"status": 401}, Unauthorized, id="401"),
        pytest.param("status", {"status": 403}, Unauthorized, id="403"),
        pytest.param("status", {"status": 429, "headers": {"Retry-After": "7"}}, RateLimited, id="429"),
        pytest.param("status", {"status": 500}, Unavailable, id="500"),
        pytest.param("html", {"status": 503}, Unavailable, id="html 503"),
        pytest.param("html", {"status": 200}, Unexpected, id="html 200"),
        pytest.param("truncate", {}, Unavailable, id="cut"),
        pytest.param("reset", {}, Unavailable, id="reset"),
        pytest.param("delay", {"seconds": 30}, Unavailable, id="time-out"),
    ],
)
def test_faults(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, make: Any, kind: str, options: dict[str, Any], error: type
) -> None:
    if kind == "delay":
        monkeypatch.setattr(api, "TIMEOUT_SECONDS", 0.2)
    sim.seed(PRODUCT, {"incidents": [incident(1)], "findings": [], "alerts": [alert(1)]})
    sim.fault(PRODUCT, kind, path="/incidents|/alerts", times=-1, **options)
    with pytest.raises(VendorError) as caught:
        make(monkeypatch, sim).records(START, END)
    assert type(caught.value) is error
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7


@pytest.mark.parametrize(("status", "error"), [(500, Unavailable), (400, Unauthorized), (401, Unauthorized)])
def test_faults_of_the_token(sim: SimServer, monkeypatch: pytest.MonkeyPatch, status: int, error: type) -> None:
    sim.fault(PRODUCT, "status", path="/auth/token", times=-1, status=status)
    with pytest.raises(VendorError) as caught:
        service(monkeypatch, sim).records(START, END)
    assert type(caught.value) is error
    assert caught.value.operation == "token"


@FAMILIES
def test_connection_test_passes(sim: SimServer, monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    passed, message = make(monkeypatch, sim).test_connection()
    assert passed, message
    assert "works" in message


@FAMILIES
def test_connection_test_tells_a_wrong_key_from_a_missing_grant_and_a_wrong_host(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    assert make(monkeypatch, sim, password="wrong").test_connection()[1].startswith("Wrong key")
    sim.fault(PRODUCT, "status", path="/incidents|/alerts", status=403)
    assert make(monkeypatch, sim).test_connection()[1].startswith("Missing grant")
    assert make(monkeypatch, "http://127.0.0.1:9").test_connection()[1].startswith("Wrong host")


def test_a_role_that_may_read_only_one_list_does_not_pass(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.fault(PRODUCT, "status", path="/findings", status=403)
    assert user(monkeypatch, sim).test_connection()[1].startswith("Missing grant")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"password": None}, "password"),
        ({"family": "neosec", "password": "x"}, "tenant_key"),
        ({"family": "both"}, "family"),
        ({"page_size": "many"}, "page_size"),
        ({"page_size": 0}, "page_size"),
    ],
)
def test_an_incomplete_connection_names_the_field(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(Unauthorized, match=word):
        user(monkeypatch, sim, **options).records(START, END)
    assert not sim.calls(PRODUCT)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """Everything that any standard logger says. The hooks' own loggers are structlog's: see ``capfd``."""
    with everything_logged() as lines:
        yield lines


@FAMILIES
def test_no_secret_is_said(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, make: Any, said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    sim.seed(PRODUCT, {"incidents": [incident(1)], "findings": [], "alerts": [alert(1)]})
    hook = make(monkeypatch, sim)
    hook.records(START, END)
    secrets = [KNOBS["user_token"], KNOBS["client_secret"], KNOBS["api_key"], hook._token or KNOBS["api_key"]]
    for status in (401, 403, 500):
        sim.fault(PRODUCT, "status", path="/incidents|/alerts", status=status, times=2)
        with pytest.raises(VendorError) as caught:
            hook.records(START, END)
        said.append(str(caught.value) + repr(caught.value))
        sim.world.faults.clear()
        secrets.append(hook._token or KNOBS["api_key"])
    said.extend(capfd.readouterr())
    assert any("127.0.0.1" in line for line in said), "the transport's own DEBUG lines were not heard"
    assert not [line for line in said if any(secret in line for secret in secrets)]
