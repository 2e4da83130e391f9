"""``blocks``, ``block``, ``lift`` and ``allow`` against the simulators, as a person types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from include.ops.in_force import by_hand
from tests.ops.commands import main
from tests.stages.controlling.control_contract import Subject
from tests.stages.controls import POLICY, PROTECTED
from tests.stages.incidents.incident_products import RespondProduct
from tests.support import SimServer
from threat_response import groups
from threat_response.runtime import settings

EVIL, WORSE, THEIRS = "198.51.100.7", "198.51.100.8", "198.51.100.9"
Typed = Callable[..., tuple[int, str]]


class Place:
    """The three controls and the incident system."""

    def __init__(self, sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sim, self.monkeypatch = sim, monkeypatch
        self.controls: dict[str, Subject] = {
            name: import_module(f"tests.vendors.{name}.contract").SUBJECT(sim, monkeypatch)
            for name in groups.controls()
        }
        self.incidents = RespondProduct(monkeypatch, sim)

    def held(self) -> set[str]:
        return set().union(*(control.held() for control in self.controls.values()))

    def everywhere(self, value: str) -> bool:
        return all(value in control.held() for control in self.controls.values())

    def told(self) -> list[str]:
        return [text for case in self.incidents.held() for text in self.incidents.comments(case.id)]

    def writes(self) -> int:
        return sum(len(control.writes()) for control in self.controls.values()) + self.incidents.writes()


@pytest.fixture
def place(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    monkeypatch.setattr(by_hand, "POLL_SECONDS", 0.0)
    return Place(sim, monkeypatch)


@pytest.fixture
def typed(place: Place, capsys: pytest.CaptureFixture[str]) -> Typed:
    """The exit code, and what was printed on either stream."""

    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def block(typed: Typed, value: str = EVIL, *more: str) -> tuple[int, str]:
    return typed("block", value, "--for", "4h", "--reason", "seen in the logs", *more)


def lift(typed: Typed, value: str = EVIL, *more: str) -> tuple[int, str]:
    return typed("lift", value, "--reason", "a customer", *more)


def test_a_block_by_hand_goes_the_way_of_a_run(place: Place, typed: Typed) -> None:
    code, said = block(typed)
    assert code == 0, said
    assert place.everywhere(EVIL)
    [case] = place.incidents.held()
    assert "Blocked by hand" in case.title
    assert "seen in the logs" in case.description
    assert "to add" in said
    told = " ".join(place.told())
    assert "198[.]51[.]100[.]7" in told
    rows = settings.ledger().actions.rows_in_force(settings.now())
    assert {row.control for row in rows} == set(place.controls)
    assert all(row.incidents == ("INC101",) or row.incidents for row in rows)
    ends = [row.expires_at for row in rows if row.expires_at]
    assert all(abs(end - datetime.now(UTC) - timedelta(hours=4)) < timedelta(minutes=5) for end in ends)


def test_a_second_block_prolongs_and_is_told_in_the_same_incident(place: Place, typed: Typed) -> None:
    block(typed)
    code, said = typed("block", EVIL, "--for", "8h", "--reason", "it goes on")
    assert code == 0, said
    assert len(place.incidents.held()) == 1
    assert "to prolong" in said


@pytest.mark.parametrize("more", [(), ("--rung", "watch")])
def test_a_protected_value_is_refused_by_the_layers_name(place: Place, typed: Typed, more: tuple[str, ...]) -> None:
    code, said = block(typed, PROTECTED, *more)
    assert code == 2
    assert "the layer own of the never-block gate protects" in said
    assert place.writes() == 0


def test_watching_goes_no_further_than_the_siem(place: Place, typed: Typed) -> None:
    code, said = block(typed, EVIL, "--rung", "watch")
    assert code == 0, said
    assert {name for name, control in place.controls.items() if EVIL in control.held()} == {"splunk"}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("block", "no value", "--for", "4h", "--reason", "because"), "is no address"),
        (("block", EVIL, "--for", "400d", "--reason", "because"), "at most 30 days"),
        (("block", EVIL, "--for", "4h", "--reason", "x"), "a reason is needed"),
        (("lift", EVIL, "--reason", " "), "a reason is needed"),
        (("allow", EVIL, "--reason", "because"), "--until"),
        (("allow", EVIL, "--until", "2020-01-31", "--reason", "because"), "is past"),
        (("allow", "0.0.0.0/0", "--until", "2999-01-31", "--reason", "because"), "wider than"),
        (("blocks", "--control", "nowhere"), "there is no"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_done(
    place: Place, typed: Typed, words: tuple[str, ...], problem: str
) -> None:
    code, said = typed(*words)
    assert code == 2
    assert problem in said
    assert place.writes() == 0


def test_lift_removes_it_everywhere_reads_back_and_tells_the_incident(place: Place, typed: Typed) -> None:
    block(typed)
    block(typed, WORSE)
    code, said = lift(typed)
    assert code == 0, said
    assert place.held() == {WORSE}
    assert "incident" in said
    told = [text for text in place.told() if "a customer" in text]
    assert len(told) == 1
    assert by_hand.person() in told[0]
    in_force = settings.ledger().actions.rows_in_force(settings.now())
    assert {row.observable.value for row in in_force} == {WORSE}
    assert lift(typed)[0] == 0
    assert len([text for text in place.told() if "a customer" in text]) == 1


def test_n18_lift_leaves_what_is_not_ours_and_says_so(place: Place, typed: Typed) -> None:
    block(typed)
    waf = place.controls["akamai_client_lists"]
    waf.change(EVIL)
    code, said = lift(typed)
    assert code == 1
    assert "NOT LIFTED, not ours" in said
    assert waf.held() == {EVIL}
    assert place.controls["splunk"].held() == set()


def test_a_network_that_does_not_take_the_list_over_is_told_as_pending(place: Place, typed: Typed) -> None:
    block(typed)
    place.sim.configure("akamai_client_lists", activation_seconds=3600)
    code, said = lift(typed, EVIL, "--wait", "0")
    assert code == 0, said
    assert "removed from the list, version" in said
    assert "`airflow threat-response blocks` shows when it is through" in said
    assert "being lifted" in typed("blocks")[1]


def test_one_control_that_is_down_costs_the_others_nothing_and_a_repeat_finishes(place: Place, typed: Typed) -> None:
    block(typed)
    place.sim.fault("crowdstrike_falcon", "status", status=503, times=-1)
    code, said = lift(typed)
    assert code == 1
    assert "crowdstrike_falcon: NOT READ" in said
    assert EVIL not in place.controls["splunk"].held()
    place.sim.world.faults.clear()
    assert lift(typed)[0] == 0
    assert place.held() == set()


def test_lift_works_at_a_control_that_is_switched_off_and_where_the_ledger_was_lost(
    place: Place, typed: Typed, tmp_path: Path
) -> None:
    block(typed)
    off = tmp_path / "off.yaml"
    off.write_text("response: {switched_off: [splunk]}\n", "utf-8")
    place.monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{POLICY}:{off}")
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    code, said = lift(typed)
    assert code == 0, said
    assert "splunk: is switched off in the policy" in said
    assert "no incident is known" in said
    assert place.held() == set()


def test_allow_protects_at_once_and_lifts_what_is_in_force(place: Place, typed: Typed) -> None:
    block(typed)
    block(typed, THEIRS)
    code, said = typed("allow", "198.51.100.0/29", "--until", "2999-01-31", "--owner", "net", "--reason", "pen test")
    assert code == 0, said
    assert place.held() == {THEIRS} | ({EVIL} & place.controls["splunk"].held())
    code, said = block(typed)
    assert code == 2
    assert "the layer allow" in said
    assert "pen test" in said
    assert typed("allow", "198.51.100.0/29", "--end", "--reason", "done")[0] == 0
    code, told, *_ = typed("allow", "198.51.100.0/29", "--end", "--reason", "again")
    assert code == 1
    assert "the ledger has no entry" in told
    assert block(typed)[0] == 0


def test_blocks_says_what_is_in_force_as_text_and_as_json(place: Place, typed: Typed) -> None:
    block(typed)
    code, said = typed("blocks")
    assert code == 0
    for name in place.controls:
        assert f"{name}: 1 in force" in said
    assert "198[.]51[.]100[.]7" in said
    assert "(3 h 59 min)" in said
    found = json.loads(typed("blocks", "--json", "--control", "splunk")[1])
    assert [(one["control"], one["value"]) for one in found] == [("splunk", EVIL)]
    assert found[0]["incidents"]
    assert found[0]["seconds_left"] > 0


def test_blocks_check_reads_back_and_names_each_difference(place: Place, typed: Typed) -> None:
    block(typed)
    code, said = typed("blocks", "--check")
    assert code == 0, said
    place.controls["splunk"].remove(EVIL)
    moment = settings.now() + timedelta(hours=2)
    place.monkeypatch.setattr(settings, "now", lambda: moment)
    code, said = typed("blocks", "--check", "--control", "splunk")
    assert code == 1
    assert "left to person" in said


def test_n18d_cancelled_forgets_what_was_lifted(place: Place, typed: Typed, tmp_path: Path) -> None:
    block(typed)
    ledger = settings.ledger()
    own = tmp_path / "own.yaml"
    entry: Any = f"{{value: {EVIL}, until: 2999-01-31, owner: soc, reason: a partner}}"
    own.write_text(f"never_block: {{allow: [{entry}]}}\n", "utf-8")
    place.monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{POLICY}:{own}")
    ledger.actions.cancel_protected(settings.gate(), run_id="r", now=settings.now())
    code, said = typed("cancelled")
    assert code == 0
    assert "3 to be lifted" in said
    lift(typed)
    assert "nothing is to be lifted" in typed("cancelled")[1]
