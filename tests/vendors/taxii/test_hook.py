"""TAXII's hook, over HTTP against the simulator: what is read, what is kept, and what is done without an answer."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from include.simulators.taxii import TaxiiSimulator
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, Unexpected
from tests.soar.examples import NOW
from tests.stages import controls
from tests.stages.controls import everything_logged
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.vendors.taxii import api
from threat_response.vendors.taxii.hook import TaxiiHook

USER, PASSWORD, KEY = (TaxiiSimulator.settings[name] for name in ("username", "password", "key"))
BOX, SECOND = "91a7b528-80eb-42ed-a74d-c6fbd5a26116", "52892447-4d7e-4f70-b94d-d7f22742ff63"
HOUR, WEEK = timedelta(hours=1), timedelta(days=7)
#: A request that the simulator holds back would be counted in the middle of the next test: it is handled first.
FAULTS = [
    *(fault for fault in controls.FAULTS if fault.id != "timeout"),
    pytest.param("hang_after_commit", {"seconds": 30}, Unavailable, id="timeout"),
    pytest.param("status", {"status": 404}, Rejected, id="404"),
    pytest.param("status", {"status": 406}, Unexpected, id="406"),
]


def indicator(number: int, *, added: str = "2026-11-20T00:00:00Z", **change: Any) -> dict[str, Any]:
    return {
        "type": "indicator",
        "spec_version": "2.1",
        "id": f"indicator--00000000-0000-4000-8000-{number:012d}",
        "created": "2026-11-19T00:00:00.000Z",
        "modified": "2026-11-19T00:00:00.000Z",
        "pattern": f"[ipv4-addr:value = '203.0.113.{number}']",
        "pattern_type": "stix",
        "valid_from": "2026-11-19T00:00:00Z",
        "_date_added": added,
        **change,
    }


def put(sim: SimServer, *objects: dict[str, Any], collection: str = BOX, **fields: Any) -> None:
    box = {"id": collection, "title": collection[:4], "objects": list(objects), **fields}
    sim.seed("taxii", {"roots": {"intel": {"title": "Shared", "collections": [box]}}})


@pytest.fixture(autouse=True)
def home(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    sim.set_clock("2026-11-24T12:00:00Z")
    return tmp_path


def connected(monkeypatch: pytest.MonkeyPatch, sim: SimServer, **fields: Any) -> TaxiiHook:
    connect(monkeypatch, "taxii_default", "taxii", sim, **{"login": USER, "password": PASSWORD, **fields})
    return TaxiiHook()


@pytest.fixture
def hook(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> TaxiiHook:
    put(sim, *(indicator(n, added=f"2026-11-20T00:00:0{n}Z") for n in range(1, 6)))
    return connected(monkeypatch, sim)


def refresh(hook: TaxiiHook, after: timedelta = timedelta(0), full_after: timedelta = WEEK) -> list[dict[str, Any]]:
    return hook.refresh(now=NOW + after, not_before=HOUR, full_after=full_after)


def only(references: list[dict[str, Any]]) -> dict[str, Any]:
    (reference,) = references
    return reference


def asked(sim: SimServer) -> list[dict[str, str]]:
    """The queries for objects."""
    return [dict(call["query"]) for call in sim.calls("taxii", path="/objects/")]


def numbers(hook: TaxiiHook, reference: dict[str, Any]) -> list[int]:
    return sorted(int(r["id"][-3:]) for r in hook.load(reference).values() if not r["revoked"])


def test_the_first_copy(hook: TaxiiHook, sim: SimServer, home: Path) -> None:
    reference = only(refresh(hook))
    assert {k: reference[k] for k in ("root", "collection", "title", "indicators", "readable", "unreadable")} == {
        "root": "/taxii2/intel/",
        "collection": BOX,
        "title": "91a7",
        "indicators": 5,
        "readable": 5,
        "unreadable": {},
    }
    assert reference["added_after"] == "2026-11-20T00:00:05.000000Z"
    assert numbers(hook, reference) == [1, 2, 3, 4, 5]
    assert Path(reference["uri"].removeprefix("file://")).is_relative_to(home)
    json.dumps(reference)  # it travels by XCom
    assert [call["path"] for call in sim.calls("taxii")][:2] == ["/taxii2/", "/taxii2/intel/collections/"]


def test_a_server_that_was_asked_lately_is_left_alone(hook: TaxiiHook, sim: SimServer) -> None:
    first = refresh(hook)
    calls = len(sim.calls("taxii"))
    assert refresh(hook, HOUR - timedelta(seconds=1)) == first
    assert len(sim.calls("taxii")) == calls


def test_afterwards_only_what_was_added_is_read(hook: TaxiiHook, sim: SimServer) -> None:
    first = only(refresh(hook))
    put(
        sim,
        indicator(6, added="2026-11-20T01:00:00Z"),
        indicator(1, added="2026-11-20T02:00:00Z", modified="2026-11-20T00:00:00Z", revoked=True),
    )
    second = only(refresh(hook, HOUR))
    assert numbers(hook, second) == [2, 3, 4, 5, 6]
    assert asked(sim)[-1]["added_after"] == "2026-11-20T00:00:05.000000Z"
    assert (second["indicators"], second["added_after"]) == (5, "2026-11-20T02:00:00.000000Z")
    assert second["full_at"] == first["full_at"]
    # A run that began with the first copy can still be repeated.
    assert numbers(hook, first) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("pages_by", ["next", "number", "constant", "added_after"])
def test_pages(hook: TaxiiHook, sim: SimServer, pages_by: str) -> None:
    sim.configure("taxii", max_page_size=2, pages_by=pages_by)
    assert numbers(hook, only(refresh(hook))) == [1, 2, 3, 4, 5]
    queries = asked(sim)
    assert len(queries) == 3
    assert [("next" in q, "added_after" in q) for q in queries[1:]] == [
        (pages_by != "added_after", pages_by == "added_after")
    ] * 2
    assert len({q["limit"] for q in queries}) == 1
    assert len({q["match[type]"] for q in queries}) == 1


def test_what_is_added_while_it_is_read_is_read_again_instead_of_passed_over(hook: TaxiiHook, sim: SimServer) -> None:
    """A server that counts in whole seconds: the second of two objects comes after the first was read."""
    sim.configure("taxii", whole_seconds=True)
    put(sim, indicator(6, added="2026-11-24T11:59:59.1Z"))
    assert only(refresh(hook))["added_after"] == "2026-11-24T11:59:00.000000Z"
    put(sim, indicator(7, added="2026-11-24T11:59:59.9Z"))
    assert numbers(hook, only(refresh(hook, HOUR))) == [1, 2, 3, 4, 5, 6, 7]


def test_nothing_new_is_the_same_copy(hook: TaxiiHook) -> None:
    first, second = only(refresh(hook)), only(refresh(hook, HOUR))
    assert second == first | {"fetched_at": (NOW + HOUR).isoformat()}


def test_what_was_deleted_is_seen_when_all_is_read_anew(hook: TaxiiHook, sim: SimServer) -> None:
    refresh(hook)
    sim.world.simulators["taxii"].clear()
    put(sim, *(indicator(n) for n in (1, 2, 3)))
    assert numbers(hook, only(refresh(hook, HOUR))) == [1, 2, 3, 4, 5]
    anew = only(refresh(hook, WEEK))
    assert numbers(hook, anew) == [1, 2, 3]
    assert "added_after" not in asked(sim)[-1]
    assert anew["full_at"] == (NOW + WEEK).isoformat()


def test_a_collection_that_shrank_by_more_than_half_was_broken(hook: TaxiiHook, sim: SimServer) -> None:
    first = refresh(hook)
    sim.world.simulators["taxii"].clear()
    put(sim, indicator(1), indicator(2))
    assert refresh(hook, WEEK) == first
    assert refresh(hook, WEEK + HOUR) == first  # and it is tried anew every time
    put(sim, indicator(3))
    assert only(refresh(hook, WEEK + 2 * HOUR))["indicators"] == 3


def test_how_far_back_the_first_download_goes(sim: SimServer, hook: TaxiiHook, monkeypatch: pytest.MonkeyPatch) -> None:
    put(sim, indicator(6, added="2026-11-24T00:00:00Z"))
    reference = only(refresh(connected(monkeypatch, sim, first_days="2")))
    assert numbers(hook, reference) == [6]
    assert asked(sim)[-1]["added_after"] == "2026-11-22T12:00:00.000000Z"


def test_only_some_types_are_asked_for_and_the_others_are_not_kept(hook: TaxiiHook, sim: SimServer) -> None:
    identity = {**indicator(9), "type": "identity", "id": "identity--00000000-0000-4000-8000-000000000009"}
    put(sim, identity)
    assert numbers(hook, only(refresh(hook))) == [1, 2, 3, 4, 5]
    assert "identity" not in asked(sim)[0]["match[type]"]


# --- what is done without an answer ------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
def test_without_a_copy_a_fault_is_an_error(
    hook: TaxiiHook,
    sim: SimServer,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: dict[str, Any],
    error: type[Exception],
) -> None:
    monkeypatch.setattr(api, "TIMEOUT_SECONDS", 0.3)
    sim.fault("taxii", kind, path="/objects/", **options)
    with pytest.raises(error) as caught:
        refresh(hook)
    assert type(caught.value) is error
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7
    assert only(refresh(hook))["indicators"] == 5  # nothing of the failure was kept


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
def test_with_a_copy_a_fault_costs_nothing_but_age(
    hook: TaxiiHook,
    sim: SimServer,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: dict[str, Any],
    error: type[Exception],
) -> None:
    first = refresh(hook)
    monkeypatch.setattr(api, "TIMEOUT_SECONDS", 0.3)
    put(sim, indicator(6, added="2026-11-21T00:00:00Z"))
    sim.fault("taxii", kind, path="/objects/", **options)
    if error is Unauthorized:  # a person must act, and would never learn of it
        with pytest.raises(Unauthorized):
            refresh(hook, HOUR)
    else:
        assert refresh(hook, HOUR) == first
        calls = len(sim.calls("taxii"))
        assert refresh(hook, HOUR * 1.5) == first  # the hour begins anew, also after a failure
        assert len(sim.calls("taxii")) == calls
    assert numbers(hook, only(refresh(hook, HOUR * 3))) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("path", ["/taxii2/$", "/collections/$"])
def test_a_server_that_is_down_leaves_the_copies(hook: TaxiiHook, sim: SimServer, path: str) -> None:
    sim.fault("taxii", "status", status=503, path=path)
    with pytest.raises(Unavailable):
        refresh(hook)
    first = refresh(hook)
    sim.fault("taxii", "status", status=503, path=path)
    assert refresh(hook, HOUR) == first


def test_a_page_in_the_middle_that_is_missing_spoils_the_reading(hook: TaxiiHook, sim: SimServer) -> None:
    sim.configure("taxii", max_page_size=2, pages_by="added_after")
    sim.fault("taxii", "empty", key="objects", path="/objects/", skip=1)
    with pytest.raises(Unexpected, match="does not say where"):
        refresh(hook)
    assert only(refresh(hook))["indicators"] == 5


def test_an_empty_page_that_names_the_next_one_is_followed(hook: TaxiiHook, sim: SimServer) -> None:
    """GAP: a server that filters after it cut its pages."""
    sim.configure("taxii", max_page_size=2)
    sim.fault("taxii", "empty", key="objects", path="/objects/", skip=2)
    refresh(hook)
    assert len(asked(sim)) == 3


def test_a_next_page_that_is_given_twice_is_not_asked_for_again(hook: TaxiiHook, sim: SimServer) -> None:
    """R6: such a server was asked 10,000 times."""
    sim.fault("taxii", "merge", patch={"more": True, "next": "abc"}, path="/objects/", times=-1)
    sim.configure("taxii", pages_by="constant")
    with pytest.raises(Unexpected):
        refresh(hook)
    assert len(asked(sim)) == 2


def test_nothing_new_and_a_header_without_meaning(hook: TaxiiHook, sim: SimServer) -> None:
    """R4: an empty page's header says "undefined"."""
    first = only(refresh(hook))
    sim.configure("taxii", last_of_nothing="undefined")
    sim.set_clock("2026-11-21T00:00:00Z")
    second = only(refresh(hook, HOUR))
    assert second["fetched_at"] > first["fetched_at"]
    assert second["added_after"] == first["added_after"]
    assert second["digest"] == first["digest"]


def test_pages_that_never_end(hook: TaxiiHook, sim: SimServer) -> None:
    """Without ``next`` the reading goes on behind the last object, and at the end there is none."""
    sim.configure("taxii", max_page_size=1)
    sim.fault("taxii", "merge", patch={"more": True, "next": None}, path="/objects/", times=-1)
    with pytest.raises(Unexpected, match="does not say where"):
        refresh(hook)
    assert len(asked(sim)) == 6


def test_one_collection_of_two_costs_itself_only(hook: TaxiiHook, sim: SimServer) -> None:
    put(sim, indicator(8), collection=SECOND)
    sim.fault("taxii", "status", status=500, path=f"{BOX}/objects/")
    broken, good = refresh(hook)
    assert (broken["uri"], broken["title"], good["indicators"]) == (None, "91a7", 1)
    assert "HTTP" not in broken["problem"]
    assert [bool(r["uri"]) for r in refresh(hook, HOUR)] == [True, True]


def test_a_reference_that_a_killed_worker_left_half_written(hook: TaxiiHook, home: Path) -> None:
    refresh(hook)
    (path,) = home.rglob("current.json")
    path.write_bytes(path.read_bytes()[:20])
    assert only(refresh(hook))["indicators"] == 5


def test_a_copy_that_is_gone_or_not_whole(hook: TaxiiHook) -> None:
    reference = only(refresh(hook))
    path = Path(reference["uri"].removeprefix("file://"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(Unexpected, match="the copy cannot be read"):
        hook.load(reference)
    path.unlink()
    with pytest.raises(Unexpected, match="the copy cannot be read"):
        hook.load(reference)
    assert numbers(hook, only(refresh(hook, HOUR))) == [1, 2, 3, 4, 5]  # everything was read anew


# --- which collections -------------------------------------------------------------------------------------------


def test_every_collection_that_may_be_read(hook: TaxiiHook, sim: SimServer) -> None:
    put(sim, collection=SECOND, can_read=False)
    put(sim, indicator(8), collection="third")
    assert [reference["collection"] for reference in refresh(hook)] == [BOX, "third"]


def test_the_collections_that_the_connection_names(
    hook: TaxiiHook, sim: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(sim, indicator(8), collection="third")
    put(sim, collection=SECOND, can_read=False)
    assert [c.id for c in connected(monkeypatch, sim, collections=f"{BOX} | ").collections()] == [BOX]
    assert [c.id for c in connected(monkeypatch, sim, collections="thir|91a7").collections()] == [BOX, "third"]
    for name in (SECOND, "nowhere"):
        with pytest.raises(Unauthorized, match=f"no readable collection '{name}'"):
            connected(monkeypatch, sim, collections=f"third|{name}").collections()


def test_no_collection_at_all_is_not_a_silence_that_counts(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    put(sim, can_read=False)
    with pytest.raises(Unauthorized, match="may be read"):
        refresh(connected(monkeypatch, sim))


@pytest.mark.parametrize("roots_at", ["http://inner.example:9000", ""])
def test_credentials_go_to_the_connection_s_host_only(hook: TaxiiHook, sim: SimServer, roots_at: str) -> None:
    sim.configure("taxii", roots_at=roots_at)
    assert only(refresh(hook))["root"] == "/taxii2/intel/"


def test_which_api_root(hook: TaxiiHook, sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.configure("taxii", default_root=None)
    assert hook.collections()[0].root == "/taxii2/intel/"  # the only one
    sim.seed("taxii", {"roots": {"other": {"title": "Other"}}})
    with pytest.raises(Unauthorized, match=r"has no api_root, .*/taxii2/intel/"):
        connected(monkeypatch, sim).collections()
    calls = len(sim.calls("taxii", path="/taxii2/"))
    named = connected(monkeypatch, sim, api_root="/taxii2/intel/")
    assert named.collections()[0].id == BOX
    assert len(sim.calls("taxii", path="/taxii2/")) == calls + 1  # discovery is not needed


# --- who may read it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knobs", "fields"),
    [
        ({"auth": "bearer"}, {"login": None, "password": KEY, "auth": "bearer"}),
        (
            {"auth": "header", "key_header": "X-Key"},
            {"login": None, "password": KEY, "auth": "header", "key_header": "X-Key"},
        ),
        ({"auth": "none"}, {"login": None, "password": None}),
    ],
)
def test_other_ways_to_say_who_one_is(
    hook: TaxiiHook, sim: SimServer, monkeypatch: pytest.MonkeyPatch, knobs: dict[str, str], fields: dict[str, Any]
) -> None:
    sim.configure("taxii", **knobs)
    assert only(refresh(connected(monkeypatch, sim, **fields)))["indicators"] == 5
    if knobs["auth"] != "none":
        with pytest.raises(Unauthorized):
            connected(monkeypatch, sim).collections()


def test_a_connection_that_says_it_in_no_known_way(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unauthorized, match="wrong field auth: 'digest' is not"):
        connected(monkeypatch, sim, auth="digest").collections()
    with pytest.raises(Unauthorized, match="no field key_header"):
        connected(monkeypatch, sim, auth="header").collections()
    put(sim, indicator(1))
    with pytest.raises(Unauthorized, match="wrong field page_size: 'many' is not a whole number"):
        refresh(connected(monkeypatch, sim, page_size="many"))


def test_the_connection_test(hook: TaxiiHook) -> None:
    assert hook.test_connection() == (True, "taxii: 1 collections can be read at /taxii2/intel/: 91a7")
    assert not (settings.archive() / "taxii").exists()  # a test leaves nothing behind


@pytest.mark.parametrize(
    ("kind", "options", "cause"),
    [
        ("status", {"status": 401}, "Wrong key"),
        ("status", {"status": 403}, "Missing grant"),
        ("status", {"status": 404}, "Wrong host"),
        ("status", {"status": 406}, "Wrong host"),
        ("html", {"status": 200}, "Wrong host"),
        ("status", {"status": 503}, "the vendor is down"),
    ],
)
def test_the_connection_test_names_the_cause(
    hook: TaxiiHook, sim: SimServer, kind: str, options: dict[str, Any], cause: str
) -> None:
    sim.fault("taxii", kind, **options)
    passed, message = hook.test_connection()
    assert not passed
    assert cause in message.split(": taxii")[0]


def test_a_taxii_20_server_is_told_apart(hook: TaxiiHook, sim: SimServer) -> None:
    sim.configure("taxii", media_type="application/vnd.oasis.taxii+json; version=2.0")
    with pytest.raises(Unexpected, match=r"vnd\.oasis\.taxii"):
        refresh(hook)


def test_neither_password_nor_its_base64_is_seen(
    hook: TaxiiHook, sim: SimServer, capsys: pytest.CaptureFixture[str]
) -> None:
    from airflow.sdk.log import redact

    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    with everything_logged() as lines:
        refresh(hook)
        for status in (401, 404, 429, 500):
            sim.fault("taxii", "status", status=status, detail=f"{PASSWORD} {basic} is odd")
            hook.test_connection()
    text = "\n".join([*lines, capsys.readouterr().out])
    assert "Test of connection taxii_default failed" in text
    assert PASSWORD not in text
    assert basic not in text
    assert basic not in str(redact(f"Authorization: Basic {basic}"))
