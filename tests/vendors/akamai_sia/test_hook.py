"""The SIA hook over HTTP, against the simulator; its signatures against Akamai's published vectors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.simulators.akamai_sia import AkamaiSiaSimulator
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, Unexpected, VendorError
from tests.stages.controls import everything_logged
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.vendors.akamai_sia import api
from threat_response.vendors.akamai_sia.hook import AkamaiSiaHook

PRODUCT = "akamai_sia"
KNOBS = AkamaiSiaSimulator.settings
VECTORS = Path(__file__).resolve().parents[3] / ".." / "shared" / "specs" / "akamai" / "edgegrid"
START = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
END = START + timedelta(hours=1)


def event(number: int, seconds: float | None = None) -> dict[str, Any]:
    when = (START + timedelta(seconds=number if seconds is None else seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "l7Protocol": "DNS",
        "query": {"uuid": f"q-{number:04d}", "domain": "c2.badware.example.", "clientIp": "192.0.2.1", "time": when},
        "event": {"detectionTime": when, "severityId": 2, "listId": "1", "listName": "Malware", "policyId": "1"},
    }


def ids(pages: list[api.Read]) -> list[str]:
    return sorted(row["query"]["uuid"] for page in pages for row in page.records)


def make(monkeypatch: pytest.MonkeyPatch, url: Any, **more: Any) -> AkamaiSiaHook:
    options = {
        "login": KNOBS["client_token"],
        "password": KNOBS["client_secret"],
        "access_token": KNOBS["access_token"],
        "config_id": "41041",
        "page_size": 10,
        **more,
    }
    connect(monkeypatch, "akamai_sia_default", PRODUCT, url, **options)
    return AkamaiSiaHook(writes_allowed=False)


def seed(sim: SimServer, *events: dict[str, Any]) -> None:
    sim.seed(PRODUCT, {"configs": {"41041": list(events)}})


def test_every_page_is_read(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim, *(event(n) for n in range(25)))
    pages = make(monkeypatch, sim).threat_events(START, END)
    assert [len(page.records) for page in pages] == [10, 10, 5]
    assert ids(pages) == [f"q-{n:04d}" for n in range(25)]
    assert len(json.loads(pages[0].body)["dataRows"]) == 10
    assert [call["body"]["pageNumber"] for call in sim.calls(PRODUCT)] == [1, 2, 3]
    assert {(call["body"]["orderBy"], call["body"]["pageSize"]) for call in sim.calls(PRODUCT)} == {("ASC", 10)}


def test_a_full_last_page_ends_the_read(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim, *(event(n) for n in range(20)))
    assert len(make(monkeypatch, sim).threat_events(START, END)) == 2


def test_an_empty_window_is_not_an_error(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim)
    assert [page.records for page in make(monkeypatch, sim).threat_events(START, END)] == [[]]


def test_the_window_is_half_open_whatever_the_vendor_means(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim, event(0, -1), event(1, 0), event(2, 3599), event(3, 3600))
    assert ids(make(monkeypatch, sim).threat_events(START, END)) == ["q-0001", "q-0002"]


def test_by_default_a_page_has_5000_rows(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim, event(1))
    make(monkeypatch, sim, page_size=None).threat_events(START, END)
    assert sim.calls(PRODUCT)[0]["body"]["pageSize"] == 5000


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_a_page_that_is_missing_is_a_short_read(sim: SimServer, monkeypatch: pytest.MonkeyPatch, skip: int) -> None:
    seed(sim, *(event(n) for n in range(25)))
    sim.fault(PRODUCT, "empty", key="dataRows", skip=skip)
    with pytest.raises(Unexpected, match="short read"):
        make(monkeypatch, sim).threat_events(START, END)


@pytest.mark.parametrize("skip", [0, 2])
def test_a_total_that_shrinks_below_what_was_promised_is_a_short_read(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, skip: int
) -> None:
    seed(sim, *(event(n) for n in range(25)))
    sim.fault(PRODUCT, "merge", patch={"pageInfo": {"totalRecords": 24 if skip else 9}}, skip=skip)
    with pytest.raises(Unexpected, match="short read"):
        make(monkeypatch, sim).threat_events(START, END)


@pytest.mark.parametrize("late_seconds", [0.0, 100.0])
def test_a_total_that_grows_during_the_read_is_read_on(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, late_seconds: float
) -> None:
    seed(sim, *(event(n) for n in range(20)))
    hook = make(monkeypatch, sim)
    asked = hook.exchange

    def grows(request: Any) -> Any:
        response = asked(request)
        if request.json["pageNumber"] == 1:
            seed(sim, event(99, late_seconds))
        return response

    monkeypatch.setattr(hook, "exchange", grows)
    read = ids(hook.threat_events(START, END))
    assert len(read) == 21
    assert set(read) >= {f"q-{n:04d}" for n in range(20)}


def test_a_read_without_end_is_given_up(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MAX_PAGES", 2)
    seed(sim, *(event(n) for n in range(25)))
    with pytest.raises(Unexpected, match="no end after 2 pages"):
        make(monkeypatch, sim).threat_events(START, END)


# --- who we are ------------------------------------------------------------------------------------------------


class StubRequest(SimpleNamespace):
    """What the signer needs of a prepared request. ``requests`` itself refuses two of the vectors' headers."""

    def register_hook(self, *_: Any) -> None: ...


def test_our_signatures_match_akamais_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    if not VECTORS.exists():
        pytest.skip("needs ../shared/specs/akamai/edgegrid, not present")
    data = json.loads((VECTORS / "testdata.json").read_text())
    monkeypatch.setattr("akamai.edgegrid.edgegrid.eg_timestamp", lambda: data["timestamp"])
    monkeypatch.setattr("akamai.edgegrid.edgegrid.new_nonce", lambda: data["nonce"])
    hook = make(
        monkeypatch,
        data["base_url"],
        login=data["client_token"],
        password=data["client_secret"],
        access_token=data["access_token"],
        max_body=data["max_body"],
    )
    auth = hook.auth(hook.connection)
    signed = 0
    for case in json.loads((VECTORS / "testcases.json").read_text()):
        given = case["request"]
        headers = {name: value for header in given.get("headers", []) for name, value in header.items()}
        # We sign no header; no API that we call asks for it.
        if any(name.startswith("X-Test") for name in headers):
            continue
        request = StubRequest(
            method=given["method"],
            url=data["base_url"].rstrip("/") + given["path"],
            headers=headers,
            body=given.get("data", ""),
        )
        assert auth(request).headers["Authorization"] == case["expectedAuthorization"], case["testName"]
        signed += 1
    assert signed >= 8


def test_a_body_longer_than_max_body_is_signed_by_its_beginning(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.configure(PRODUCT, max_body=16)
    seed(sim, event(1))
    assert ids(make(monkeypatch, sim, max_body=16).threat_events(START, END)) == ["q-0001"]
    with pytest.raises(Unauthorized):
        make(monkeypatch, sim, max_body=17).threat_events(START, END)


def test_an_account_switch_key_is_sent_and_signed(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim, event(1))
    hook = make(monkeypatch, sim, account_switch_key="1-ABC:2-D E")
    assert ids(hook.threat_events(START, END)) == ["q-0001"]
    assert sim.calls(PRODUCT)[0]["query"] == [["accountSwitchKey", "1-ABC:2-D E"]]


@pytest.mark.parametrize("field", ["login", "password", "access_token"])
def test_a_wrong_credential_is_a_wrong_key(sim: SimServer, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    seed(sim)
    assert make(monkeypatch, sim, **{field: "wrong"}).test_connection()[1].startswith("Wrong key")


def test_connection_test(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim)
    passed, message = make(monkeypatch, sim).test_connection()
    assert passed, message
    sim.configure(PRODUCT, granted=False)
    assert make(monkeypatch, sim).test_connection()[1].startswith("Missing grant")
    assert make(monkeypatch, "http://127.0.0.1:9").test_connection()[1].startswith("Wrong host")


def test_a_skewed_clock_is_named(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim)
    sim.world.clock.advance(81)
    hook = make(monkeypatch, sim)
    assert hook.test_connection()[1].startswith("Clock skew")
    with pytest.raises(Unauthorized, match="timestamp") as caught:
        hook.threat_events(START, END)
    assert caught.value.status == 400


def test_somebody_elses_configuration_is_a_persons_work(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim)
    with pytest.raises(Unauthorized, match=r"no SIA configuration 101.*Code-090209") as caught:
        make(monkeypatch, sim, config_id="101").threat_events(START, END)
    assert caught.value.status == 404


def test_another_refusal_stays_a_refusal(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(sim)
    with pytest.raises(Rejected, match="Code-000104"):
        make(monkeypatch, sim).threat_events(END, START)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"login": None}, "login"),
        ({"password": None}, "password"),
        ({"access_token": ""}, "access_token"),
        ({"config_id": None}, "config_id"),
        ({"config_id": "41041/../1"}, "config_id"),
        ({"page_size": "all"}, "page_size"),
        ({"max_body": -1}, "max_body"),
    ],
)
def test_an_incomplete_connection_names_the_field(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(Unauthorized, match=word):
        make(monkeypatch, sim, **options).threat_events(START, END)
    assert not sim.calls(PRODUCT)


# --- faults ------------------------------------------------------------------------------------------------------


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
@pytest.mark.parametrize("skip", [0, 1], ids=["first page", "second page"])
def test_faults(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, skip: int, kind: str, options: dict[str, Any], error: type
) -> None:
    if kind == "delay":
        monkeypatch.setattr(api, "TIMEOUT_SECONDS", 0.2)
    seed(sim, *(event(n) for n in range(25)))
    sim.fault(PRODUCT, kind, skip=skip, times=-1, **options)
    with pytest.raises(VendorError) as caught:
        make(monkeypatch, sim).threat_events(START, END)
    assert type(caught.value) is error
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7


@pytest.fixture
def said() -> Iterator[list[str]]:
    """Everything that any standard logger says. The hooks' own loggers are structlog's: see ``capfd``."""
    with everything_logged() as lines:
        yield lines


def test_no_secret_and_no_signature_is_said(
    sim: SimServer, monkeypatch: pytest.MonkeyPatch, said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    seed(sim, event(1))
    hook = make(monkeypatch, sim)
    signatures: list[str] = []
    real = hook.session.auth

    def noting(request: Any) -> Any:
        signed = real(request)
        signatures.append(re.search(r"signature=(\S+)", signed.headers["Authorization"])[1])
        return signed

    monkeypatch.setattr(hook.session, "auth", noting)
    hook.threat_events(START, END)
    for kind, options in (("status", {"status": 401}), ("status", {"status": 500}), ("reset", {}), ("html", {})):
        sim.fault(PRODUCT, kind, **options)
        with pytest.raises(VendorError) as caught:
            hook.threat_events(START, END)
        said.append(str(caught.value) + repr(caught.value))
    secrets = [KNOBS["client_token"], KNOBS["client_secret"], KNOBS["access_token"], *signatures]
    assert len(set(signatures)) == 5
    said.extend(capfd.readouterr())
    assert any("127.0.0.1" in line for line in said), "the transport's own DEBUG lines were not heard"
    assert not [line for line in said if any(secret in line for secret in secrets)]
