"""
API Security as strangers have met it: tenants that differ from our guesses, what an attacker can put into a record, and
the requests of public clients (faults/attack.md 1d, 1g, 1h; faults/fidelity.md C, J5).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from include.simulators.akamai_api_security.answers import INCIDENT_FIELDS
from include.soar.vendor.errors import Rejected, Unavailable, Unexpected
from tests.stages.tiny import Answer, Seen, TinyServer
from tests.support import SimServer
from tests.vendors.akamai_api_security.test_growth import attackers
from tests.vendors.akamai_api_security.test_operators import KNOBS, PRODUCT, home, incident, names, run, seed
from tests.vendors.support import connect
from threat_response.vendors.akamai_api_security import api
from threat_response.vendors.akamai_api_security.hook import AkamaiApiSecurityHook

__all__ = ["home"]

EMPTY = b'{"entities": [], "moreEntities": false}'


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyServer]:
    """A tenant that answers as a test says, connected in the simulator's place."""
    tiny = TinyServer()
    connect(monkeypatch, "akamai_api_security_default", PRODUCT, tiny.url, password="a-users-token", page_size=2)
    yield tiny
    tiny.stop()


def answer(server: TinyServer, *pages: bytes, incidents: bytes = EMPTY) -> None:
    """The list of incidents answers this whatever it is asked, or these pages by offset; that of findings is empty."""

    def one(seen: Seen) -> Answer:
        query = dict(seen.query)
        if not seen.path.endswith("/incidents") or "lastUpdateStartDate" in query:
            return Answer(200, EMPTY)
        if not pages:
            return Answer(200, incidents)
        number = int(query["offset"]) // 2
        return Answer(200, pages[min(number, len(pages) - 1)])

    server.always = one


# --- what is left out is told -------------------------------------------------------------------------------


def test_1d_every_attacker_is_read_and_evidence_is_bounded(sim: SimServer) -> None:
    """faults/attack.md 1d: beyond the thousandth text, attackers were lost without a word."""
    many = [f"198.51.{n // 250}.{n % 250}" for n in range(3_000)]
    seed(sim, incident(1, 10, attackerIps=many, evidence=["a text"] * 1_500))
    batch = run()
    assert set(attackers(batch)["i-0001"]) == {*many, "203.0.113.1"}
    [told] = batch.rejected
    assert (told.record, told.field) == ("incident i-0001", "(cut)")
    assert told.problem.startswith("1,500 more texts")


def test_1d_one_long_text_of_attackers_is_read_whole(sim: SimServer) -> None:
    many = [f"198.51.{n // 250}.{n % 250}" for n in range(20_000)]
    seed(sim, incident(1, 10, attackerIps=[", ".join(many)]))
    read = ", ".join(attackers(run())["i-0001"])
    assert {*many} <= {word.strip() for word in read.split(",")}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attackerIps", [{"ip": "198.51.100.7"}]),
        ("attackerIps", {"a": "198.51.100.7"}),
        ("attackerIp", {"ip": "198.51.100.7"}),
        ("attackerIps", ["203.0.113.9", ["198.51.100.7"]]),
        ("attacker", [{"IP": "198.51.100.7"}]),
        ("attacker", {"address": "198.51.100.7"}),
        ("attacker", {"IP": [{"v4": "198.51.100.7"}]}),
        ("attacker", {"identifier": {"ip": "198.51.100.7"}, "identifierType": "IP"}),
        ("attacker", True),
        ("attacker", "198.51.100.7"),
        ("attacker", ["198.51.100.7"]),
    ],
)
def test_1h_another_shape_is_told_and_not_read_as_nobody(sim: SimServer, field: str, value: Any) -> None:
    """faults/attack.md 1h: the finding is taken, and its attacker is named among what could not be read."""
    record = {k: v for k, v in incident(1, 10).items() if k != "attackerIp"} | {field: value}
    seed(sim, record)
    batch = run()
    assert names(batch) == ["i-0001"]
    [told] = batch.rejected
    assert (told.record, told.field.split(".")[0]) == ("incident i-0001", field)


@pytest.mark.parametrize("value", [None, "", [], {}, [None], "198.51.100.7", ["198.51.100.7"]])
def test_1h_what_is_absent_or_a_text_is_no_change_of_shape(sim: SimServer, value: Any) -> None:
    seed(sim, incident(1, 10, attackerIps=value, attackerIp=value))
    batch = run()
    assert batch.rejected == ()
    assert attackers(batch)["i-0001"] == (["198.51.100.7"] * 2 if value and value != [None] else [])


@pytest.mark.parametrize(
    ("evidence", "field"),
    [
        (b"[" * 5_000 + b'"x"' + b"]" * 5_000, "(whole)"),
        (b'"agent \xff\xfe"', None),
        (b"9" * 5_000, None),
        (b'"\\ud800"', None),
    ],
    ids=["nested", "bytes", "digits", "surrogate"],
)
def test_1g_a_poisoned_record_costs_itself_at_most(server: TinyServer, evidence: bytes, field: str | None) -> None:
    """faults/attack.md 1g: one record's evidence cost the source for four hours."""
    first, poisoned, last = (json.dumps(incident(n, n)).encode() for n in (1, 2, 3))
    poisoned = poisoned[:-1] + b', "evidence": ' + evidence + b"}"
    body = b'{"entities": [' + b", ".join((first, poisoned, last)) + b'], "moreEntities": false}'
    answer(server, incidents=body)
    batch = run()
    assert names(batch) == ["i-0001", "i-0002", "i-0003"]
    assert [told.field for told in batch.rejected] == ([field] if field else [])


def test_tokens_in_the_place_of_addresses_are_told(sim: SimServer, capsys: pytest.CaptureFixture[str]) -> None:
    """faults/fidelity.md G: a tenant that hides its data gives tokens; nobody would be blocked, and nobody told."""
    seed(sim, incident(1, 10, attackerIp="tkn_9f2c"), incident(2, 20))
    run()
    assert "No attacker's address could be read in 1 of 2 records" in capsys.readouterr().out


# --- tenants that know fewer names (J5) ---------------------------------------------------------------------


def without(*names: str) -> list[str]:
    return [name for name in INCIDENT_FIELDS if name not in names]


def test_j5_a_name_that_the_tenant_does_not_know_is_left_out_and_told(
    sim: SimServer, capsys: pytest.CaptureFixture[str]
) -> None:
    sim.configure(PRODUCT, incident_fields=without("attackerIps", "impact"))
    seed(sim, incident(1, 10), incident(2, 20))
    assert names(run()) == ["i-0001", "i-0002"]
    printed = capsys.readouterr().out
    assert "This tenant's incidents have no attackerIps, impact: asking without" in printed
    assert "remediation, investigate" in printed  # the list of the allowed names is whole
    refused = [c for c in sim.calls(PRODUCT, path="/incidents") if c["status"] == 400]
    assert len(refused) == 1


def test_j5_a_tenant_that_tells_no_attacker_is_an_error_in_the_log(
    sim: SimServer, capsys: pytest.CaptureFixture[str]
) -> None:
    sim.configure(PRODUCT, incident_fields=without("attacker", "attackerIp", "attackerIps"))
    seed(sim, incident(1, 10))
    assert attackers(run()) == {"i-0001": []}
    assert "do not tell who attacked" in capsys.readouterr().out


def test_j5_test_connection_says_what_is_missing(sim: SimServer) -> None:
    sim.configure(PRODUCT, incident_fields=without("attackerIps"))
    ok, words = AkamaiApiSecurityHook().test_connection()
    assert ok
    assert words.endswith("; incidents have no attackerIps")


def test_j5_a_refusal_that_nothing_mends_names_every_allowed_name(sim: SimServer) -> None:
    allowed = [*without("severity", "detectionTime"), "aVeryLastName"]
    sim.configure(PRODUCT, incident_fields=allowed)
    ok, words = AkamaiApiSecurityHook().test_connection()
    assert not ok
    assert "without severity, detectionTime" in words
    assert all(name in words for name in allowed)


@pytest.mark.parametrize("message", ["returnFields is not allowed", ["limit is fine", "returnFields must be an array"]])
def test_j5_where_no_names_are_listed_it_is_asked_without(server: TinyServer, message: Any) -> None:
    body = json.dumps({"entities": [incident(1, 10)], "moreEntities": False}).encode()

    def one(seen: Seen) -> Answer:
        if any(name == "returnFields" for name, _ in seen.query):
            return Answer(400, json.dumps({"statusCode": 400, "message": message}).encode())
        return Answer(200, body if seen.path.endswith("/incidents") else EMPTY)

    server.always = one
    assert names(run()) == ["i-0001"]


def test_j5_another_refusal_is_the_vendors(server: TinyServer) -> None:
    server.always = Answer(400, b'{"statusCode": 400, "message": "limit must not be greater than 1"}')
    with pytest.raises(Rejected, match="limit must not be greater"):
        run()
    assert len(server.seen) == 1


# --- lists without their end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("empty_body", [False, True])
def test_c_a_list_of_incidents_without_more_entities_is_read_to_its_end(sim: SimServer, empty_body: bool) -> None:
    """The one public client of incidents never reads ``moreEntities``, and warns of an empty body."""
    sim.configure(PRODUCT, says_more=False, empty_body=empty_body)
    assert names(run()) == []  # a quiet hour
    seed(sim, *(incident(n, n) for n in range(1, 26)))
    assert len(run().findings) == 25


def test_c_a_tenant_that_always_answers_the_same_page_is_left_after_two(server: TinyServer) -> None:
    answer(server, incidents=json.dumps({"entities": [incident(1, 10), incident(2, 20)]}).encode())
    assert names(run()) == ["i-0001", "i-0002"]
    assert len([s for s in server.seen if s.path.endswith("/incidents")]) == 3  # two, and one by last update


@pytest.mark.parametrize("last", [b"", b'{"entities": []}'])
def test_c_nothing_after_a_page_that_promises_more_is_a_short_read(server: TinyServer, last: bytes) -> None:
    page = {"entities": [incident(1, 10), incident(2, 20)], "moreEntities": True}
    answer(server, json.dumps(page).encode(), last)
    with pytest.raises(Unexpected, match="short read"):
        run()


def test_j6_a_proxys_page_is_not_a_wrong_token(server: TinyServer) -> None:
    server.always = Answer(403, b"<!DOCTYPE html><html><title>Access</title></html>", {"Content-Type": "text/html"})
    with pytest.raises(Unavailable, match="a page in HTML instead of the vendor's answer"):
        run()


def test_r18_records_far_outside_of_the_window_are_counted(
    server: TinyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    far = [incident(n, 60 * 11 + n) for n in (1, 2)]
    answer(server, incidents=json.dumps({"entities": [*far, incident(3, 10)], "moreEntities": False}).encode())
    assert names(run()) == ["i-0003"]
    assert "2 incidents were detected far outside of the window" in capsys.readouterr().out


# --- what public clients send (fidelity.md C) ----------------------------------------------------------------


def client(sim: SimServer) -> requests.Session:
    session = requests.Session()
    given = {"client_id": KNOBS["client_id"], "client_secret": KNOBS["client_secret"]}
    token = session.post(f"{sim.url}/auth/token", json=given, timeout=5)
    assert token.status_code in (200, 201)
    session.headers["Authorization"] = f"Bearer {token.json()['accessToken']}"
    return session


def test_c_a_fetcher_of_findings_reads_until_more_entities_is_false(sim: SimServer) -> None:
    seed(sim, findings=[incident(n, n / 60) | {"id": f"f-{n}", "module": "Posture"} for n in range(25)])
    session, offset, read = client(sim), 0, []
    while True:
        params: list[tuple[str, str]] = [("limit", "10"), ("offset", str(offset)), ("sortDesc", "true")]
        params += [("detectionStartDate", "2026-01-02T03:00:00.000Z"), ("detectionEndDate", "2026-01-02T04:00:00.000Z")]
        params += [("returnFields", name) for name in api.RETURN_FIELDS["finding"]]
        page = session.get(f"{sim.url}/api/v4/findings", params=params, timeout=5).json()
        read += page["entities"]
        offset += 10
        if not page["moreEntities"]:
            break
    assert len({one["id"] for one in read}) == 25
    tagged = session.patch(f"{sim.url}/api/v4/findings/f-1/tags", json={"tagIds": ["t1"]}, timeout=5)
    assert tagged.status_code == 200


def test_c_a_resolver_of_incidents_reads_until_entities_is_empty_and_resolves(sim: SimServer) -> None:
    sim.configure(PRODUCT, says_more=False)
    seed(sim, *(incident(n, n, responseCodes=[404]) for n in range(1, 8)))
    session, offset = client(sim), 0
    while True:
        params: list[tuple[str, str]] = [("limit", "5"), ("offset", str(offset)), ("sortDesc", "true")]
        params += [("lastActivityStartDate", "2020-01-01T00:00:00.000Z")] if offset < 0 else []
        params += [("returnFields", name) for name in ("id", "responseCodes", "status")]
        entities = session.get(f"{sim.url}/api/v4/incidents", params=params, timeout=5).json()["entities"]
        if not entities:
            break
        for one in entities:
            assert set(one) == {"id", "responseCodes", "status"}
            url = f"{sim.url}/api/v4/incidents/{one['id']}"
            assert session.patch(url, json={"status": "resolved"}, timeout=5).status_code == 200
        offset += len(entities)
    assert {one["status"] for one in sim.state(PRODUCT)["incidents"]} == {"resolved"}


def test_c_an_unknown_name_is_refused_with_the_allowed_ones(sim: SimServer) -> None:
    params = [("returnFields", "id"), ("returnFields", "nonsense")]
    refused = client(sim).get(f"{sim.url}/api/v4/incidents", params=params, timeout=5)
    assert refused.status_code == 400
    assert "must be one of the following values: id, title" in refused.json()["message"]
