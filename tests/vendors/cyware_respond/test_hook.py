"""The hook against the simulator, over HTTP."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from include.soar.vendor.errors import (
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    Unexpected,
    VendorError,
    WriteInPlanMode,
)
from tests.stages.incidents.incident_examples import NOW, observable
from tests.support import SimServer
from tests.vendors.cyware_respond.support import CONN_ID, PRODUCT, incidents, links, writes
from threat_response.vendors.cyware_respond import api
from threat_response.vendors.cyware_respond import hook as hook_module
from threat_response.vendors.cyware_respond import tenant as contract_module
from threat_response.vendors.cyware_respond.hook import CywareRespondHook, SignedQuery

LONG_AGO = NOW - timedelta(days=400)
FIELDS = {
    "title": "a case [TR-0123456789abcdef]",
    "description": "<p>text</p>",
    "status": "open",
    "level": "High",
    "ie_incident_type": "Hacking",
    "sources": "Akamai API Security",
    "assigned_group": "SOC L1",
    "detection_date": "2026-01-18T07:38:50.000Z",
}
Connect = Callable[..., None]


@pytest.fixture
def hook(connected: Connect) -> CywareRespondHook:
    return CywareRespondHook()


def seed(sim: SimServer, count: int) -> None:
    sim.seed(PRODUCT, {"incidents": [{"title": f"case {n}", "description": "d", "level": "Low"} for n in range(count)]})


def turn_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(hook_module, "utcnow", lambda: datetime.now(UTC) + timedelta(seconds=seconds))


# --- who we are ---------------------------------------------------------------------------------------------


def test_the_signature_goes_into_the_query_percent_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    # The documented vector that has "+" and "/": expires 1700000020 lies on the grid, so take the hook's own clock.
    monkeypatch.setattr(hook_module, "utcnow", lambda: datetime.fromtimestamp(1700000003, UTC))
    prepared = requests.Request("GET", "https://t.example/p/?a=%2F", auth=SignedQuery("test-access-id", "k")).prepare()
    query = urlsplit(str(prepared.url)).query
    assert query.startswith("a=%2F&AccessID=test-access-id&Expires=1700000020&Signature=")
    assert not set(query.partition("Signature=")[2]) & set("+/=")
    assert parse_qs(query)["Expires"] == ["1700000020"]


@pytest.mark.parametrize("offset", range(10))
def test_every_second_gives_a_signature_that_the_vendor_takes(
    sim: SimServer, hook: CywareRespondHook, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    """Base64's three characters come and go with the second: all must pass."""
    turn_clock(monkeypatch, offset * 1000)
    sim.world.clock.advance(offset * 1000)
    sim.configure(PRODUCT, max_ttl=20)
    assert "works" in hook.ping()


def test_each_attempt_is_signed_afresh(
    sim: SimServer, hook: CywareRespondHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(sim, 3)
    assert len(hook.list_incidents(LONG_AGO)) == 3
    turn_clock(monkeypatch, 3600)
    sim.world.clock.advance(3600)
    assert len(hook.list_incidents(LONG_AGO)) == 3  # the same session, an hour later


def test_a_signature_that_died_on_its_way_is_renewed_once(sim: SimServer, hook: CywareRespondHook) -> None:
    sim.fault(PRODUCT, "status", status=401, detail="Signature has expired.")
    hook.create_incident(FIELDS)
    assert len(incidents(sim)) == 1


def test_bearer(sim: SimServer, connected: Connect) -> None:
    sim.configure(PRODUCT, bearer_token="the-token-of-respond")
    connected(login=None, password="the-token-of-respond", auth="bearer")
    assert "works" in CywareRespondHook().ping()
    assert all("Signature" not in dict(c["query"]) for c in sim.calls(PRODUCT))
    connected(login=None, password="another", auth="bearer")
    with pytest.raises(Unauthorized):
        CywareRespondHook().ping()


@pytest.mark.parametrize("status", [401, 403])
def test_the_test_button_tells_the_causes_apart(
    sim: SimServer, connected: Connect, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    sim.configure(PRODUCT, auth_status=status)
    assert CywareRespondHook().test_connection() == (
        True,
        "cyware_respond: the key works, and incidents can be read",
    )
    connected(password="wrong-secret")
    ok, message = CywareRespondHook().test_connection()
    assert (ok, message.partition(":")[0]) == (False, "Wrong key")
    connected(login=None)
    assert CywareRespondHook().test_connection()[1].startswith("Incomplete or wrong connection")
    connected(auth="basic")
    assert "wrong field auth: 'basic' is not one of signature, bearer" in CywareRespondHook().test_connection()[1]
    connected(base_path="/nothing/here")
    assert CywareRespondHook().test_connection()[1].startswith("Wrong host")
    connected()
    turn_clock(monkeypatch, -300)
    ok, message = CywareRespondHook().test_connection()
    assert ok is False
    assert message.startswith("Clock skew")
    assert re.search(r"-(29\d|30\d) s off", message)


def test_a_key_that_may_not_read_incidents(sim: SimServer, hook: CywareRespondHook) -> None:
    sim.fault(PRODUCT, "status", path="/v1/incident/", status=403, times=-1)
    assert hook.test_connection()[1].startswith("Missing grant")


@pytest.mark.parametrize(
    "path", ["", "/", "/cftrapi", "/cftrapi/", "/cftrapi/openapi/", "/cftrapi/openapi/v1", "/cftrapi/v1/"]
)
def test_j6_the_address_of_the_credentials_file_or_of_the_admin_page_may_be_pasted(
    sim: SimServer, connected: Connect, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    url = f"{sim.url}{path}"
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{CONN_ID.upper()}",
        f'{{"conn_type": "cyware_respond", "host": "{url}", "login": "sim-access", "password": "sim-secret"}}',
    )
    assert "works" in CywareRespondHook().ping()


@pytest.mark.parametrize("status", [401, 403])
def test_j6_a_proxys_page_is_not_a_wrong_key(sim: SimServer, hook: CywareRespondHook, status: int) -> None:
    """Cloudflare Access before a tenant: its page says nothing about the key, and may be gone in a minute."""
    sim.fault(PRODUCT, "html", status=status, times=-1)
    ok, message = hook.test_connection()
    assert ok is False
    assert "Wrong key" not in message
    assert "a page in HTML instead of the vendor's answer" in message
    with pytest.raises(Unavailable):
        hook.list_incidents(LONG_AGO)


@pytest.mark.parametrize(("ahead", "clock"), [(6, False), (12, True), (40, True), (-12, False), (-20, True)])
def test_j6_a_clock_that_is_a_little_ahead_is_told_as_such(
    sim: SimServer, connected: Connect, monkeypatch: pytest.MonkeyPatch, ahead: int, clock: bool
) -> None:
    """Expires may lie 30 s ahead: a machine that is 11 s ahead is refused, and its key is right."""
    connected(password="wrong-secret")
    turn_clock(monkeypatch, ahead)
    message = CywareRespondHook().test_connection()[1]
    assert message.startswith("Clock skew" if clock else "Wrong key")


def test_j6_the_vendor_takes_no_expires_far_ahead(sim: SimServer, hook: CywareRespondHook) -> None:
    sim.configure(PRODUCT, clock_skew_seconds=-16)
    assert hook.test_connection()[1].startswith("Clock skew")


@pytest.mark.parametrize("created", [10**18, "0001-01-01T00:00:00+14:00x", None, -(10**18), {"at": 1}])
def test_1i_an_incident_of_somebody_else_that_cannot_be_read_costs_itself(
    sim: SimServer, hook: CywareRespondHook, created: Any
) -> None:
    theirs = {"unique_id": "x", "title": "theirs", "status": "open", "created": created}
    readable = {"unique_id": "y", "title": "t", "status": "open", "created": "2026-01-01T00:00:00Z"}
    sim.fault(PRODUCT, "merge", path="/v1/incident/", patch={"results": [theirs, readable], "count": 2})
    assert [row.unique_id for row in hook.list_incidents(LONG_AGO)] == ["y"]
    # Of ours nothing may be missing: a second one would be opened.
    ours = {**theirs, "title": "x [TR-5911dc742b67510c]"}
    sim.fault(PRODUCT, "merge", path="/v1/incident/", patch={"results": [ours, readable], "count": 2})
    with pytest.raises(Unexpected, match="created"):
        hook.list_incidents(LONG_AGO)


def test_times_in_milliseconds_are_read() -> None:
    row = {"unique_id": "x", "title": "t", "status": "open", "created": 1_767_225_600_000}
    assert api.parse_row("list_incidents", row).created == datetime(2026, 1, 1, tzinfo=UTC)


# --- lists --------------------------------------------------------------------------------------------------

ENVELOPES = pytest.mark.parametrize(
    "knobs",
    [
        {"envelope": "top"},
        {"envelope": "link"},
        {"envelope": "top", "past_end": "empty"},
        {"envelope": "link", "next_link": False},
    ],
    ids=["top", "link", "empty-past-end", "no-next"],
)


@ENVELOPES
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 205])
def test_a_list_is_read_to_its_end(sim: SimServer, hook: CywareRespondHook, knobs: dict[str, Any], count: int) -> None:
    sim.configure(PRODUCT, **knobs)
    seed(sim, count)
    rows = hook.list_incidents(LONG_AGO)
    assert {row.title for row in rows} == {f"case {n}" for n in range(count)}
    assert rows == sorted(rows, key=lambda row: row.order)


def test_only_incidents_of_the_time_asked_for(sim: SimServer, hook: CywareRespondHook) -> None:
    old = (NOW - timedelta(days=3)).isoformat()
    sim.seed(PRODUCT, {"incidents": [{"title": "old", "created": old}, {"title": "new"}]})
    assert [row.title for row in hook.list_incidents(NOW - timedelta(days=2))] == ["new"]
    assert [row.title for row in hook.list_incidents(LONG_AGO, NOW - timedelta(days=2))] == ["old"]


@ENVELOPES
@pytest.mark.parametrize("page", [1, 2])
def test_a_page_missing_from_the_middle_is_noticed(
    sim: SimServer, hook: CywareRespondHook, knobs: dict[str, Any], page: int
) -> None:
    sim.configure(PRODUCT, **knobs)
    seed(sim, 205)
    sim.fault(PRODUCT, "empty", path="/v1/incident/", key="results", skip=page - 1)
    with pytest.raises(Unexpected, match=f"short read: page {page}"):
        hook.list_incidents(LONG_AGO)


def test_a_tenant_with_smaller_pages_is_noticed_and_configured(
    sim: SimServer, connected: Connect, hook: CywareRespondHook
) -> None:
    seed(sim, 60)
    sim.configure(PRODUCT, max_page_size=25)
    with pytest.raises(Unexpected, match="page_size"):
        hook.list_incidents(LONG_AGO)
    connected(page_size="25")
    assert len(CywareRespondHook().list_incidents(LONG_AGO)) == 60


def test_a_list_without_end_is_left(sim: SimServer, connected: Connect) -> None:
    seed(sim, 12)
    connected(page_size=4, maximum_pages=2)
    with pytest.raises(Unexpected, match="no end after 2 pages"):
        CywareRespondHook().list_incidents(LONG_AGO)


def test_a_page_that_repeats_is_not_read_for_ever(sim: SimServer, connected: Connect) -> None:
    seed(sim, 8)
    connected(page_size=4)
    hook = CywareRespondHook()
    first = requests_page(hook)
    sim.fault(PRODUCT, "merge", path="/v1/incident/", patch={"results": first}, times=-1)
    with pytest.raises(Unexpected, match="page 2 repeats"):
        hook.list_incidents(LONG_AGO)


def requests_page(hook: CywareRespondHook) -> list[Any]:
    return hook._page("/v1/incident/", "list_incidents", 1, ()).rows


# --- verbs --------------------------------------------------------------------------------------------------


def test_an_incident_is_created_changed_commented_and_closed(sim: SimServer, hook: CywareRespondHook) -> None:
    created = hook.create_incident(FIELDS)
    hook.update_incident(created.unique_id, {"labels": ["blocked"]})
    hook.add_comment(created.unique_id, "<p>a comment</p>")
    hook.close_incident(created.unique_id, "<p>duplicate</p>")
    incident = hook.get_incident(created.unique_id)
    assert (incident.readable_id, incident.status, incident.labels) == ("INC100", "closed", ["blocked"])
    assert incident.description == "<p>text</p>"  # the closing note did not replace it
    notes = sim.state(PRODUCT)["comments"][created.unique_id]
    assert [(c["description"], c["comment_type"]) for c in notes] == [
        ("<p>a comment</p>", "note"),
        ("<p>duplicate</p>", "closure"),
    ]
    assert len(hook.comments(created.unique_id)) == 2


def test_a_word_that_the_tenant_does_not_know_names_its_field(hook: CywareRespondHook) -> None:
    with pytest.raises(Rejected, match="level"):
        hook.create_incident({**FIELDS, "level": "Enormous"})


@pytest.mark.parametrize("existing", ["accept", "refuse"])
@pytest.mark.parametrize("told", ["all", "new", "none"])
def test_threat_intel_ids_whatever_the_tenant_answers(
    sim: SimServer, hook: CywareRespondHook, existing: str, told: str
) -> None:
    sim.configure(PRODUCT, bulk_create_existing=existing, bulk_create_answer=told)
    sim.seed(PRODUCT, {"iocs": [{"ioc_type": "ioc_ip", "value": "203.0.113.10"}]})
    wanted = [observable(v) for v in ("203.0.113.10", "2001:db8::1", "evil.badware.example", "https://e.example/Q?a=b")]
    for _ in range(2):
        ids, refused = hook.ensure_iocs(wanted)
        held = {ioc["value"]: ioc["unique_id"] for ioc in sim.state(PRODUCT)["iocs"]}
        assert ids == {o.key: held[o.value] for o in wanted}
        assert (len(held), refused) == (4, {})


def test_a_value_that_is_refused_costs_itself_only(sim: SimServer, hook: CywareRespondHook) -> None:
    good, bad = observable("203.0.113.10"), observable("no_such_name")
    ids, refused = hook.ensure_iocs([good, bad])
    assert list(ids) == [good.key]
    assert {key: type(error) for key, error in refused.items()} == {bad.key: Rejected}


@pytest.mark.parametrize("call", ["advanced", "flat"])
def test_two_incidents_are_related(sim: SimServer, connected: Connect, call: str) -> None:
    connected(relate_call=call)
    hook = CywareRespondHook()
    old, new = hook.create_incident(FIELDS), hook.create_incident(FIELDS)
    hook.relate(new.unique_id, old.unique_id)
    assert [c.unique_id for c in hook.connected("incident", new.unique_id)] == [old.unique_id]
    assert len(links(sim, "incident", "incident")) == 1


def test_nothing_is_written_in_plan_mode(sim: SimServer, connected: Connect) -> None:
    hook = CywareRespondHook(writes_allowed=False)
    for write in (
        lambda: hook.create_incident(FIELDS),
        lambda: hook.update_incident("x", {}),
        lambda: hook.add_comment("x", "y"),
        lambda: hook.ensure_iocs([observable("203.0.113.10")]),
        lambda: hook.link_components({}),
        lambda: hook.relate("x", "y"),
    ):
        with pytest.raises(WriteInPlanMode):
            write()
    assert writes(sim) == []


# --- faults -------------------------------------------------------------------------------------------------

FAULTS: list[tuple[dict[str, Any], type[VendorError]]] = [
    ({"kind": "status", "status": 401}, Unauthorized),
    ({"kind": "status", "status": 403}, Unauthorized),
    ({"kind": "status", "status": 429, "headers": {"Retry-After": "17"}}, RateLimited),
    ({"kind": "status", "status": 400}, Rejected),
    ({"kind": "status", "status": 500}, Unavailable),
    ({"kind": "html", "status": 503}, Unavailable),
    ({"kind": "html", "status": 200}, Unexpected),
    ({"kind": "truncate"}, Unavailable),
    ({"kind": "reset"}, Unavailable),
    ({"kind": "delay", "seconds": 30}, Unavailable),
]
VERBS: dict[str, Callable[[CywareRespondHook, str], Any]] = {
    "list_incidents": lambda hook, uid: hook.list_incidents(LONG_AGO),
    "get_incident": lambda hook, uid: hook.get_incident(uid),
    "create_incident": lambda hook, uid: hook.create_incident(FIELDS),
    "update_incident": lambda hook, uid: hook.update_incident(uid, {"labels": ["blocked"]}),
    "comments": lambda hook, uid: hook.comments(uid),
    "add_comment": lambda hook, uid: hook.add_comment(uid, "<p>x</p>"),
    "connected": lambda hook, uid: hook.connected("incident", uid),
    "relate": lambda hook, uid: hook.relate(uid, uid),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("fault", "error"), FAULTS, ids=[f"{f['kind']}-{f.get('status', '')}" for f, _ in FAULTS])
def test_faults(
    sim: SimServer,
    hook: CywareRespondHook,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    fault: dict[str, Any],
    error: type[VendorError],
) -> None:
    unique_id = hook.create_incident(FIELDS).unique_id
    hook.add_comment(unique_id, "<p>the first</p>")
    if fault["kind"] == "delay":
        monkeypatch.setattr(contract_module, "TIMEOUT_SECONDS", 0.2)
    if verb == "relate":
        other = hook.create_incident(FIELDS).unique_id
        run = lambda: hook.relate(unique_id, other)  # noqa: E731
    else:
        run = lambda: VERBS[verb](hook, unique_id)  # noqa: E731
    sim.fault(PRODUCT, **fault, times=-1)
    with pytest.raises(error) as caught:
        run()
    assert type(caught.value) is error
    assert "Signature=" not in str(caught.value)
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 17


# --- secrets ------------------------------------------------------------------------------------------------


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_no_secret_and_no_signature_is_ever_told(
    sim: SimServer, connected: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, root, urllib3_log = Kept(), logging.getLogger(), logging.getLogger("urllib3.connectionpool")
    levels = [(logger, logger.level) for logger in (root, urllib3_log)]
    for logger, _ in levels:
        logger.setLevel(logging.DEBUG)
    sent: list[str] = []
    original = SignedQuery.__call__

    def listen(self: SignedQuery, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        signed = original(self, prepared)
        query = str(signed.url).partition("?")[2]
        sent.append(parse_qs(query)["Signature"][0])
        sent.append(query.partition("Signature=")[2])
        return signed

    monkeypatch.setattr(SignedQuery, "__call__", listen)
    root.addHandler(kept)
    try:
        hook = CywareRespondHook()
        hook.create_incident(FIELDS)
        for kind in ("reset", "truncate"):
            sim.fault(PRODUCT, kind)
            with pytest.raises(Unavailable) as caught:
                hook.list_incidents(LONG_AGO)
            kept.lines.append(f"{caught.value!s} {caught.value!r}")
        connected(password="another-secret")
        kept.lines.append(str(CywareRespondHook().test_connection()))
    finally:
        root.removeHandler(kept)
        for logger, level in levels:
            logger.setLevel(level)
    told = "\n".join(kept.lines)
    assert "/cftrapi/openapi/v1/incident/" in told  # urllib3 did tell the calls
    assert len(set(sent)) >= 2
    for secret in ("sim-access", "sim-secret", "another-secret", *sent):
        assert secret not in told
