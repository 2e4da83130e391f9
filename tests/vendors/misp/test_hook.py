"""MISP's hook, over HTTP against the simulator."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import requests

from include.simulators.misp import MispSimulator
from include.soar.model import Answer, Observable, Reputation
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unexpected, VendorError
from tests.soar.examples import address, domain
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.vendors.misp import api
from threat_response.vendors.misp.hook import MispHook

KEY = MispSimulator.settings["api_key"]
EVIL, CLEAN, DRAFT = address("203.0.113.7"), address("203.0.113.99"), domain("draft.example")
OLD = address("198.51.100.7")
EVENTS = [
    {
        "info": "Credential stuffing",
        "threat_level_id": "1",
        "Tag": [{"name": "tlp:amber"}, {"name": 'misp-galaxy:mitre-attack-pattern="Brute Force - T1110"'}],
        "Attribute": [
            {"type": "ip-src", "value": "203.0.113.7", "to_ids": True},
            {"type": "ip-dst|port", "value": "203.0.113.8|443", "to_ids": True},
        ],
    },
    {
        "info": "a draft",
        "published": False,
        "Attribute": [{"type": "domain", "value": "draft.example", "to_ids": True}],
    },
    {
        "info": "old",
        "timestamp": "1500000000",
        "Attribute": [{"type": "ip-src", "value": "198.51.100.7", "to_ids": True}],
    },
]
#: kind, options, the error that it must become.
FAULTS = [
    pytest.param("status", {"status": 404}, Unexpected, id="404"),
    pytest.param("status", {"status": 400}, Rejected, id="400"),
]


def connected(monkeypatch: pytest.MonkeyPatch, sim: SimServer, password: str = KEY, **extra: Any) -> MispHook:
    connect(monkeypatch, "misp_default", "misp", sim, password=password, **extra)
    return MispHook()


@pytest.fixture
def hook(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> MispHook:
    sim.seed("misp", {"events": EVENTS})
    return connected(monkeypatch, sim)


def listed(found: list[Reputation]) -> list[str]:
    return [r.observable.value for r in found if r.answer is Answer.LISTED]


def test_one_search_for_all_values(hook: MispHook, sim: SimServer) -> None:
    evil, clean, port = hook.search([EVIL, CLEAN, address("203.0.113.8")])
    assert (evil.answer, evil.score, evil.techniques, evil.tags[0]) == (Answer.LISTED, 90, ("T1110",), "tlp:amber")
    assert evil.reference == f"{sim.url}/events/view/1"
    assert (clean.answer, clean.score) == (Answer.NOT_LISTED, 0)
    assert port.answer is Answer.LISTED
    assert evil.body_digest == clean.body_digest
    assert len(sim.calls("misp")) == 1


def test_the_digest_is_that_of_what_came(hook: MispHook, sim: SimServer) -> None:
    (evil,) = hook.search([EVIL])
    again = requests.post(
        f"{sim.url}/attributes/restSearch",
        json=sim.calls("misp")[0]["body"],
        headers={"Authorization": KEY, "Accept": "application/json"},
        timeout=10,
    )
    assert evil.body_digest == hashlib.sha256(again.content).hexdigest()


def test_what_counts_is_the_connection_s(sim: SimServer, hook: MispHook, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Observable] = [EVIL, DRAFT, OLD]
    assert listed(hook.search(asked)) == [EVIL.value, OLD.value]
    assert listed(connected(monkeypatch, sim, published_only=False).search(asked)) == [o.value for o in asked]
    assert listed(connected(monkeypatch, sim, last="365d").search(asked)) == [EVIL.value]
    sim.seed("misp", {"warninglist": ["203.0.113.0/24"]})
    assert listed(connected(monkeypatch, sim).search(asked)) == [OLD.value]
    assert listed(connected(monkeypatch, sim, warning_lists=False).search(asked)) == [EVIL.value, OLD.value]


@pytest.mark.parametrize(("tells", "calls"), [(True, 3), (False, 4)])
def test_pages(sim: SimServer, hook: MispHook, monkeypatch: pytest.MonkeyPatch, tells: bool, calls: int) -> None:
    """Attributes 1-3, 4-6 and 7-8 of one value; on the second page one is taken out by a warning list."""
    many = [{"type": "ip-src", "value": "198.51.100.8", "to_ids": True, "comment": str(n)} for n in range(7)]
    many.insert(4, {"type": "domain|ip", "value": "good.example|198.51.100.8", "to_ids": True})
    sim.seed("misp", {"events": [{"info": "many", "Attribute": many}], "warninglist": ["good.example"]})
    sim.configure("misp", tells_skipped=tells)
    (found,) = connected(monkeypatch, sim, page_size=3).search([address("198.51.100.8")])
    assert found.answer is Answer.LISTED
    assert [call["body"]["page"] for call in sim.calls("misp")] == list(range(1, calls + 1))


def test_what_stands_on_a_later_page_counts(sim: SimServer, hook: MispHook, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed(connected(monkeypatch, sim, page_size=1).search([EVIL, OLD])) == [EVIL.value, OLD.value]


def test_pages_that_do_not_end_are_no_answer(sim: SimServer, hook: MispHook, monkeypatch: pytest.MonkeyPatch) -> None:
    patch = {"response": {"Attribute": [_attribute(1)]}}
    sim.fault("misp", "merge", patch=patch, times=-1)
    with pytest.raises(Unexpected, match="page 2 repeats"):
        connected(monkeypatch, sim, page_size=1).search([EVIL])
    assert len(sim.calls("misp")) == 2


@pytest.mark.parametrize("warned", [(), ("good.example",)], ids=["ever new", "ever empty"])
def test_pages_that_never_end_are_given_up(
    sim: SimServer, hook: MispHook, monkeypatch: pytest.MonkeyPatch, warned: tuple[str, ...]
) -> None:
    """4c: ever new attributes, or pages from which warning lists took everything."""
    monkeypatch.setattr(api, "MOST_PAGES", 5)
    both = {"type": "domain|ip", "value": "good.example|198.51.100.8", "to_ids": True}
    attributes = [{**both, "comment": str(number)} for number in range(9)]
    sim.seed("misp", {"events": [{"info": "many", "Attribute": attributes}], "warninglist": list(warned)})
    sim.configure("misp", tells_skipped=True)
    with pytest.raises(Unexpected, match="more than 5 pages"):
        connected(monkeypatch, sim, page_size=1).search([address("198.51.100.8")])
    assert len(sim.calls("misp")) == 5


def _attribute(number: int) -> dict[str, Any]:
    event = {"id": "1", "info": "x"}
    return {"uuid": str(number), "type": "ip-src", "value": "a", "to_ids": True, "timestamp": "1", "Event": event}


def test_an_answer_without_its_list_is_not_clean(hook: MispHook, sim: SimServer) -> None:
    sim.fault("misp", "empty", key="response")
    with pytest.raises(Unexpected):
        hook.search([EVIL])


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
def test_faults_of_its_own(
    hook: MispHook, sim: SimServer, kind: str, options: dict[str, Any], error: type[VendorError]
) -> None:
    sim.fault("misp", kind, **options)
    with pytest.raises(error) as caught:
        hook.search([EVIL])
    assert type(caught.value) is error


def test_a_role_s_limit_says_when_it_is_renewed(hook: MispHook, sim: SimServer) -> None:
    sim.configure("misp", searches_per_quarter_hour=1)
    hook.search([EVIL])
    with pytest.raises(RateLimited) as caught:
        hook.search([EVIL])
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 900


def test_the_connection_test_names_the_version(hook: MispHook) -> None:
    assert hook.test_connection() == (True, "misp: the key may search; MISP 2.5.34")


def test_a_wrong_key_and_a_role_that_may_not_search(
    hook: MispHook, sim: SimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connected(monkeypatch, sim, "another-key").test_connection()[1].startswith("Wrong key")
    sim.configure("misp", role_may_search=False)
    assert connected(monkeypatch, sim).test_connection()[1].startswith("Missing grant")
    with pytest.raises(Unauthorized, match="has no password"):
        connected(monkeypatch, sim, "").search([EVIL])
