"""What is Respond's own in the incident stages: the form's words, pages, and connections between records."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from include.soar.incident import marks
from include.soar.model import IncidentBatch, IncidentOutcome, Role, Severity
from include.soar.vendor.errors import Rejected, Unexpected
from tests.stages.incidents.incident_examples import ATTACKER, NOW, SECOND, actions, case, context, decision, finding
from tests.stages.incidents.incident_runs import Runs, outcomes, until_done
from tests.support import SimServer
from tests.vendors.cyware_respond.support import PRODUCT, incidents, links, writes

pytestmark = pytest.mark.usefixtures("connected")

RUNS = Runs(PRODUCT)


def older_case(sim: SimServer, title: str, days: float, *values: str, **more: Any) -> None:
    created = (NOW - timedelta(days=days)).isoformat()
    sim.seed(PRODUCT, {"incidents": [{"title": title, "created": created, "_iocs": {"ioc_ip": list(values)}, **more}]})


def asked(sim: SimServer) -> list[str]:
    """Method and last words of the path of each call."""
    return [f"{c['method']} {'/'.join(c['path'].strip('/').split('/')[-2:])}" for c in sim.calls(PRODUCT)]


def test_an_incident_per_high_priority_finding(sim: SimServer) -> None:
    batch = case(finding("f-1"), finding("f-2", source="akamai_sia", severity=Severity.CRITICAL), finding("f-3"))
    opened = IncidentBatch.model_validate(RUNS.open(batch, decision(batch, low=("f-3",))))
    assert [(r.finding_uid, r.outcome) for r in opened.incidents] == [
        ("f-1", IncidentOutcome.CREATED),
        ("f-2", IncidentOutcome.CREATED),
    ]
    held = incidents(sim)
    first, second = held
    assert first["title"] == f"Akamai API Security: Credential stuffing f-1 [{marks.marker('f-1')}]"
    assert (first["level"], first["ie_incident_type"], first["sources"]) == ("High", "Hacking", "Akamai API Security")
    assert (second["level"], second["ie_incident_type"], second["sources"]) == ("Critical", "Malware", "Akamai SIA")
    assert first["labels"] == ["auto-onboarded", "akamai-api-security"]
    assert (first["phase"], first["assigned_group"], first["status"]) == ("Detection Analysis", "SOC L1", "open")
    assert first["source_ip"] == ATTACKER
    assert first["detection_date"] == f"{NOW - timedelta(hours=2):%Y-%m-%dT%H:%M:%S}.000Z"
    assert "203[.]0[.]113[.]10" in first["description"]
    ref = opened.incidents[0]
    assert (ref.unique_id, ref.readable_id) == (first["unique_id"], "INC100")
    assert ref.url == f"{sim.url}/cftr/incident/{first['unique_id']}"
    assert ref.created_at is not None
    assert sim.state(PRODUCT)["comments"] == {}


@pytest.mark.parametrize("envelope", ["top", "link"])
def test_a_repeated_run_writes_nothing(sim: SimServer, envelope: str) -> None:
    sim.configure(PRODUCT, envelope=envelope)
    batch = case(*(finding(f"f-{n}") for n in range(3)))
    assert outcomes(RUNS.open(batch)) == ["created"] * 3
    sim.world.calls.clear()
    assert outcomes(RUNS.open(batch, ctx=context("manual__2"))) == ["existing"] * 3
    assert writes(sim) == []


def test_the_incident_is_found_among_more_than_a_page(sim: SimServer) -> None:
    batch = case(finding("f-1"))
    RUNS.open(batch)
    sim.seed(PRODUCT, {"incidents": [{"title": f"other {n}"} for n in range(250)]})
    assert outcomes(RUNS.open(batch, ctx=context("manual__2"))) == ["existing"]
    assert len(incidents(sim)) == 251


def test_more_than_a_page_of_findings(sim: SimServer) -> None:
    batch = case(*(finding(f"f-{n:03d}") for n in range(105)), seen={})
    assert outcomes(RUNS.open(batch)) == ["created"] * 105
    assert outcomes(RUNS.open(batch, ctx=context("manual__2"))) == ["existing"] * 105
    assert len(incidents(sim)) == 105


@pytest.mark.parametrize("kind", ["reset_after_commit", "truncate", "html"])
def test_a_lost_answer_to_a_create_makes_no_second_incident(sim: SimServer, kind: str) -> None:
    batch = case(finding("f-1"), finding("f-2"))
    if kind == "html":  # nothing was committed: the page came from a proxy in front
        sim.fault(PRODUCT, kind, method="POST", path="/v1/incident/$", status=200)
        with pytest.raises(Unexpected):
            RUNS.open(batch)
    else:
        sim.fault(PRODUCT, kind, method="POST", path="/v1/incident/$")
        assert outcomes(RUNS.open(batch)) == ["created", "created"]
    assert outcomes(RUNS.open(batch))[1] == "existing"
    assert len(incidents(sim)) == 2
    assert len(links(sim, "incident", "ioc_ip")) == 2


def test_a_short_read_creates_nothing(sim: SimServer) -> None:
    sim.seed(PRODUCT, {"incidents": [{"title": f"x [{marks.marker('f-1')}]"}]})
    sim.fault(PRODUCT, "empty", path="/v1/incident/$", key="results")
    with pytest.raises(Unexpected, match="short read"):
        RUNS.open(case(finding("f-1")))
    assert len(incidents(sim)) == 1


@pytest.mark.parametrize(
    "path", ["/v1/incident/$", "bulk-create", "link-components", "/v1/incident/.*/connect-the-dots"]
)
def test_a_lost_answer_anywhere_leaves_one_of_each(sim: SimServer, path: str) -> None:
    batch = case(finding("f-1"), seen={ATTACKER: [("f-1", Role.ATTACKER)], SECOND: [("f-1", Role.ATTACKER)]})
    sim.fault(PRODUCT, "reset_after_commit", path=path, method=None if "dots" in path else "POST")
    until_done(lambda ctx: RUNS.open(batch, ctx=ctx))
    RUNS.open(batch, ctx=context("again"))
    assert len(incidents(sim)) == 1
    assert len(sim.state(PRODUCT)["iocs"]) == 2
    assert sorted(count for *_, count in links(sim, "incident", "ioc_ip")) == ["1", "1"]


@pytest.mark.parametrize("told", ["all", "none"])
def test_threat_intel_that_exists_is_reused(sim: SimServer, told: str) -> None:
    sim.configure(PRODUCT, bulk_create_answer=told, bulk_create_existing="refuse")
    sim.seed(PRODUCT, {"iocs": [{"ioc_type": "ioc_ip", "value": ATTACKER}]})
    RUNS.open(case(finding("f-1")))
    assert len(sim.state(PRODUCT)["iocs"]) == len(links(sim, "incident", "ioc_ip")) == 1


@pytest.mark.parametrize("call", ["advanced", "flat"])
def test_either_call_relates(sim: SimServer, connected: Callable[..., None], call: str) -> None:
    connected(relate_call=call)
    older_case(sim, "by hand", 2, ATTACKER, description="d")
    batch = case(finding("f-1"))
    RUNS.relate(batch, RUNS.open(batch))
    assert len(links(sim, "incident", "incident")) == 1


def test_connections_without_values_are_resolved_by_the_list(sim: SimServer, connected: Callable[..., None]) -> None:
    older_case(sim, "by hand", 2, ATTACKER, description="d")
    batch = case(finding("f-1"))
    opened = RUNS.open(batch)
    connected_ids = [ioc["unique_id"] for ioc in sim.state(PRODUCT)["iocs"]]
    bare = {"ioc_ip": [{"unique_id": unique_id} for unique_id in connected_ids]}
    sim.fault(PRODUCT, "merge", path="/v1/incident/.*/connect-the-dots", method="GET", patch=bare)
    assert [r["outcome"] for r in RUNS.relate(batch, opened)["relations"]] == ["related"]


def test_another_identifier_for_threat_intel_is_one_change(sim: SimServer, connected: Callable[..., None]) -> None:
    sim.configure(PRODUCT, ioc_component="threat-intel")
    older_case(sim, "by hand", 2, ATTACKER, description="d")
    batch = case(finding("f-1"))
    opened = RUNS.open(batch)
    with pytest.raises(Rejected):
        RUNS.relate(batch, opened)
    connected(ioc_component="threat-intel")
    assert len(RUNS.relate(batch, opened)["relations"]) == 1


def test_a_merged_incident_is_left_alone(sim: SimServer) -> None:
    mark = marks.marker("f-1")
    ours = {"description": f"<p>reference {mark}</p>", "labels": ["auto-onboarded"]}
    sim.seed(PRODUCT, {"incidents": [{"title": f"x [{mark}]", "status": "merged", **ours}]})
    batch = case(finding("f-1"))
    opened = RUNS.open(batch)
    assert RUNS.relate(batch, opened)["relations"] == []
    [told] = RUNS.update(batch, opened, actions={"waf": actions()})["updates"]
    assert "merged" in told["outcome"]
    assert writes(sim) == []


def test_the_words_are_those_of_this_tenant(sim: SimServer, connected: Callable[..., None]) -> None:
    """Labels and sources of the connection reach the stages that speak of them."""
    connected(label_blocked="akamai-sia", sources={"akamai_api_security": "Email"})
    batch = case(finding("f-1"))
    opened = RUNS.open(batch)
    RUNS.update(batch, opened, actions={"waf": actions()})
    [held] = incidents(sim)
    assert (held["title"].partition(":")[0], held["sources"]) == ("Email", "Email")
    assert held["labels"] == ["auto-onboarded", "akamai-api-security", "akamai-sia"]


def test_attached_without_values_is_not_written_again(sim: SimServer) -> None:
    """Where connections do not tell the values a repeated run resolves them by the list, and writes nothing."""
    batch = case(finding("f-1"))
    RUNS.open(batch)
    bare = {"ioc_ip": [{"unique_id": ioc["unique_id"]} for ioc in sim.state(PRODUCT)["iocs"]]}
    sim.fault(PRODUCT, "merge", path="/v1/incident/.*/connect-the-dots", method="GET", patch=bare, times=-1)
    sim.world.calls.clear()
    assert outcomes(RUNS.open(batch)) == ["existing"]
    assert writes(sim) == []


def test_what_an_incident_costs(sim: SimServer) -> None:
    """The numbers of the README: each call counts against the tenant's quota."""
    older_case(sim, "by hand", 2, ATTACKER, description="d")
    batch = case(finding("f-1"))
    opened = RUNS.open(batch)
    unique_id = opened["incidents"][0]["unique_id"]
    look = f"GET {unique_id}/connect-the-dots"
    assert asked(sim) == [
        *("GET v1/incident", "POST v1/incident", "GET v1/incident"),
        *(look, "POST ioc/bulk-create", "POST connect-the-dots/link-components", look),
    ]
    sim.world.calls.clear()
    RUNS.relate(batch, opened)
    assert len(asked(sim)) == 8
    sim.world.calls.clear()
    RUNS.update(batch, opened, actions={"waf": actions()})
    assert [call.split()[0] for call in asked(sim)] == ["GET", "GET", "POST", "PUT"]
