"""The three incident stages against the simulator: what the tenant holds afterwards, and after everything again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from include.soar.incident import clean, marks
from include.soar.model import (
    CaseBatch,
    Decision,
    IncidentBatch,
    IncidentOutcome,
    Outcome,
    Refusal,
    RelationBatch,
    Role,
    Severity,
    Standing,
)
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, Unexpected, VendorError
from tests.support import SimServer
from tests.vendors.cyware_respond.support import (
    ATTACKER,
    CONN_ID,
    EVIL,
    NOW,
    OWN,
    PRODUCT,
    SECOND,
    actions,
    case,
    comments,
    context,
    decision,
    finding,
    incidents,
    links,
    observable,
    writes,
)
from threat_response.runtime import settings as house_module
from threat_response.vendors.cyware_respond.operators import (
    CywareOpenIncidentsOperator,
    CywareRelateOperator,
    CywareUpdateIncidentsOperator,
    worst,
)

Json = dict[str, Any]

pytestmark = pytest.mark.usefixtures("connected")


def open_incidents(batch: CaseBatch, decided: Decision | None = None, ctx: Json | None = None) -> Json:
    decided = decided or decision(batch)
    operator = CywareOpenIncidentsOperator(task_id="open_incidents", case=batch.to_json(), decision=decided.to_json())
    return dict(operator.execute(ctx or context()))


def relate(batch: CaseBatch, opened: Json | None, decided: Decision | None = None, ctx: Json | None = None) -> Json:
    decided = decided or decision(batch)
    operator = CywareRelateOperator(
        task_id="relate", case=batch.to_json(), decision=decided.to_json(), incidents=opened
    )
    return dict(operator.execute(ctx or context()))


def update(
    batch: CaseBatch, opened: Json | None, decided: Decision | None = None, ctx: Json | None = None, **more: Any
) -> Json:
    decided = decided or decision(batch)
    operator = CywareUpdateIncidentsOperator(
        task_id="update_incidents", case=batch.to_json(), decision=decided.to_json(), incidents=opened, **more
    )
    return dict(operator.execute(ctx or context()))


def outcomes(opened: Json) -> list[str]:
    return [ref.outcome.value for ref in IncidentBatch.model_validate(opened).incidents]


def until_done(attempt: Callable[[Json], Json], tries: int = 3) -> Json:
    """As Airflow would: again after an error that a retry can mend."""
    for _ in range(tries):
        try:
            return attempt(context())
        except (Unavailable, RateLimited):
            continue
    return attempt(context())


def older_case(sim: SimServer, title: str, days: float, *values: str, **more: Any) -> None:
    created = (NOW - timedelta(days=days)).isoformat()
    sim.seed(PRODUCT, {"incidents": [{"title": title, "created": created, "_iocs": {"ioc_ip": list(values)}, **more}]})


# --- opening ------------------------------------------------------------------------------------------------


def test_an_incident_per_high_priority_finding(sim: SimServer) -> None:
    batch = case(finding("f-1"), finding("f-2", source="akamai_sia", severity=Severity.CRITICAL), finding("f-3"))
    opened = IncidentBatch.model_validate(open_incidents(batch, decision(batch, low=("f-3",))))
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


def test_nothing_of_high_priority_asks_nothing(sim: SimServer) -> None:
    batch = case(finding("f-1"))
    assert open_incidents(batch, decision(batch, low=("f-1",)))["incidents"] == []
    assert sim.calls(PRODUCT) == []


@pytest.mark.parametrize("envelope", ["top", "link"])
def test_a_repeated_run_writes_nothing(sim: SimServer, envelope: str) -> None:
    sim.configure(PRODUCT, envelope=envelope)
    batch = case(*(finding(f"f-{n}") for n in range(3)))
    assert outcomes(open_incidents(batch)) == ["created"] * 3
    sim.world.calls.clear()
    assert outcomes(open_incidents(batch, ctx=context("manual__2"))) == ["existing"] * 3
    assert writes(sim) == []


def test_the_incident_is_found_among_more_than_a_page(sim: SimServer) -> None:
    batch = case(finding("f-1"))
    open_incidents(batch)
    sim.seed(PRODUCT, {"incidents": [{"title": f"other {n}"} for n in range(250)]})
    assert outcomes(open_incidents(batch, ctx=context("manual__2"))) == ["existing"]
    assert len(incidents(sim)) == 251


def test_more_than_a_page_of_findings(sim: SimServer) -> None:
    batch = case(*(finding(f"f-{n:03d}") for n in range(105)), seen={})
    assert outcomes(open_incidents(batch)) == ["created"] * 105
    assert outcomes(open_incidents(batch, ctx=context("manual__2"))) == ["existing"] * 105
    assert len(incidents(sim)) == 105


@pytest.mark.parametrize("status", ["closed", "merged"])
def test_a_closed_or_merged_incident_counts(sim: SimServer, status: str) -> None:
    sim.seed(PRODUCT, {"incidents": [{"title": f"renamed [{marks.marker('f-1')}]", "status": status}]})
    assert outcomes(open_incidents(case(finding("f-1")))) == ["existing"]
    assert len(incidents(sim)) == 1


def test_a_mark_written_by_an_attacker_is_nobodys(sim: SimServer) -> None:
    forged = f"path /[{marks.marker('f-2')}]"
    batch = case(finding("f-1", title=forged), finding("f-2"))
    assert outcomes(open_incidents(batch)) == ["created", "created"]
    assert outcomes(open_incidents(batch)) == ["existing", "existing"]


def test_the_ledger_may_be_lost(sim: SimServer, tmp_path: Path) -> None:
    batch = case(finding("f-1"))
    open_incidents(batch)
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    assert outcomes(open_incidents(batch)) == ["existing"]
    assert len(incidents(sim)) == 1


def test_the_ledger_helps_when_an_analyst_changed_the_title(sim: SimServer) -> None:
    batch = case(finding("f-1"))
    open_incidents(batch)
    sim.world.simulators[PRODUCT].incidents[incidents(sim)[0]["unique_id"]]["title"] = "mine now"  # type: ignore[attr-defined]
    assert outcomes(open_incidents(batch)) == ["existing"]
    assert len(incidents(sim)) == 1


def test_the_ledger_is_not_believed(sim: SimServer) -> None:
    """It names an incident that is somebody else's now, or none: then ours is opened."""
    batch = case(finding("f-1"), finding("f-2"))
    open_incidents(batch)
    sim.world.simulators[PRODUCT].clear()
    sim.seed(PRODUCT, {"incidents": [{"title": "another tenant's", "description": "x"}]})  # has the first one's id
    assert outcomes(open_incidents(batch)) == ["created", "created"]
    assert len(incidents(sim)) == 3


def test_two_runs_that_overlap_open_one_incident(sim: SimServer) -> None:
    """The second comes while the first's claim is alive: it waits for the retry, and then finds the incident."""
    batch = case(finding("f-1"))
    ledger = house_module.ledger()
    mark = marks.marker("f-1")
    assert ledger.claims.take(f"incident:{mark}", by="dag/first", now=house_module.now(), lease=timedelta(minutes=5))
    ctx = context("second")
    with pytest.raises(Unavailable, match="another run"):
        open_incidents(batch, ctx=ctx)
    assert outcomes(ctx["ti"].pushed["return_value"]) == ["failed"]
    assert incidents(sim) == []
    ctx = context("first")
    ctx["dag_run"].dag_id = "dag"
    assert outcomes(open_incidents(batch, ctx=ctx)) == ["created"]
    assert outcomes(open_incidents(batch, ctx=context("second"))) == ["existing"]
    assert len(incidents(sim)) == 1


def test_a_claim_of_a_dead_run_ends(sim: SimServer) -> None:
    ledger, an_hour_ago = house_module.ledger(), house_module.now() - timedelta(hours=1)
    ledger.claims.take(f"incident:{marks.marker('f-1')}", by="dead", now=an_hour_ago, lease=timedelta(minutes=5))
    assert outcomes(open_incidents(case(finding("f-1")))) == ["created"]


def test_of_two_incidents_the_younger_is_closed(sim: SimServer) -> None:
    """Both of two racing tasks created; whoever reads back sees both and keeps the older."""
    mark = marks.marker("f-1")
    for minutes in (30, 20):
        created = (NOW - timedelta(minutes=minutes)).isoformat()
        sim.seed(PRODUCT, {"incidents": [{"title": f"x [{mark}]", "description": "d", "created": created}]})
    for _ in range(2):
        opened = IncidentBatch.model_validate(open_incidents(case(finding("f-1"))))
        older, younger = incidents(sim)
        assert opened.incidents[0].unique_id == older["unique_id"]
        assert (older["status"], younger["status"]) == ("open", "closed")
        assert comments(sim, younger["unique_id"]) == ["<p>duplicate of INC100</p>"]
    assert len(incidents(sim)) == 2


@pytest.mark.parametrize("lost", [False, True])
def test_our_own_is_closed_when_another_was_first(sim: SimServer, lost: bool) -> None:
    """Another's incident appears between our look and our read-back, whether or not we got our create's answer."""
    created = (NOW - timedelta(minutes=30)).isoformat()
    title = f"x [{marks.marker('f-1')}]"
    sim.seed(PRODUCT, {"incidents": [{"title": title, "description": "d", "created": created}]})
    sim.fault(PRODUCT, "merge", method="GET", path="/v1/incident/$", patch={"results": [], "count": 0})
    if lost:
        sim.fault(PRODUCT, "reset_after_commit", method="POST", path="/v1/incident/$")
    [ref] = IncidentBatch.model_validate(open_incidents(case(finding("f-1")))).incidents
    theirs, ours = incidents(sim)
    assert ref.unique_id == theirs["unique_id"]
    assert (theirs["status"], ours["status"]) == ("open", "closed")
    assert comments(sim, ours["unique_id"]) == [f"<p>duplicate of {theirs['readable_id']}</p>"]
    assert ref.detail == f"duplicate {ours['readable_id']} closed"
    assert [ids[0] for ids in links(sim, "incident", "ioc_ip")] == [theirs["unique_id"]]
    row = house_module.ledger().incidents.get(ref.marker)
    assert row is not None
    assert row.unique_id == theirs["unique_id"]


@pytest.mark.parametrize("kind", ["reset_after_commit", "truncate", "html"])
def test_a_lost_answer_to_a_create_makes_no_second_incident(sim: SimServer, kind: str) -> None:
    batch = case(finding("f-1"), finding("f-2"))
    if kind == "html":  # nothing was committed: the page came from a proxy in front
        sim.fault(PRODUCT, kind, method="POST", path="/v1/incident/$", status=200)
        with pytest.raises(Unexpected):
            open_incidents(batch)
    else:
        sim.fault(PRODUCT, kind, method="POST", path="/v1/incident/$")
        assert outcomes(open_incidents(batch)) == ["created", "created"]
    assert outcomes(open_incidents(batch))[1] == "existing"
    assert len(incidents(sim)) == 2
    assert len(links(sim, "incident", "ioc_ip")) == 2


def test_a_create_that_never_arrived_is_left_to_the_retry(sim: SimServer) -> None:
    sim.fault(PRODUCT, "status", method="POST", path="/v1/incident/$", status=503)
    ctx = context()
    batch = case(finding("f-1"), finding("f-2"))
    with pytest.raises(Unavailable):
        open_incidents(batch, ctx=ctx)
    assert outcomes(ctx["ti"].pushed["return_value"]) == ["failed", "created"]
    assert outcomes(open_incidents(batch)) == ["created", "existing"]


def test_one_refused_finding_costs_itself_only(sim: SimServer) -> None:
    sim.fault(PRODUCT, "status", method="POST", path="/v1/incident/$", body="f-1", status=400, detail="no", times=-1)
    ctx = context()
    with pytest.raises(Rejected):
        open_incidents(case(finding("f-1"), finding("f-2")), ctx=ctx)
    assert outcomes(ctx["ti"].pushed["return_value"]) == ["failed", "created"]
    assert len(links(sim, "incident", "ioc_ip")) == 1


@pytest.mark.parametrize(
    ("fault", "error", "creates"),
    [
        ({"kind": "status", "status": 403}, Unauthorized, 2),
        ({"kind": "status", "status": 429, "headers": {"Retry-After": "5"}}, RateLimited, 1),
        ({"kind": "status", "status": 500}, Unavailable, 3),
    ],
)
def test_it_stops_asking_when_asking_is_useless(
    sim: SimServer, fault: Json, error: type[VendorError], creates: int
) -> None:
    """Refused key: once, and once signed anew. Spent quota: once. Down: three times."""
    sim.fault(PRODUCT, method="POST", path="/v1/incident/$", times=-1, **fault)
    ctx = context()
    with pytest.raises(error):
        open_incidents(case(*(finding(f"f-{n}") for n in range(6))), ctx=ctx)
    assert len(sim.calls(PRODUCT, "POST")) == creates
    assert outcomes(ctx["ti"].pushed["return_value"]) == ["failed"] * 6


def test_a_short_read_creates_nothing(sim: SimServer) -> None:
    sim.seed(PRODUCT, {"incidents": [{"title": f"x [{marks.marker('f-1')}]"}]})
    sim.fault(PRODUCT, "empty", path="/v1/incident/$", key="results")
    with pytest.raises(Unexpected, match="short read"):
        open_incidents(case(finding("f-1")))
    assert len(incidents(sim)) == 1


def test_without_a_connection_the_task_fails_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"AIRFLOW_CONN_{CONN_ID.upper()}")
    with pytest.raises(Unauthorized, match="there is no connection 'cyware_respond_default'"):
        open_incidents(case(finding("f-1")))


def test_plan_mode_writes_nothing(sim: SimServer) -> None:
    batch = case(finding("f-1"), finding("f-2"))
    older_case(sim, "older", 2, ATTACKER, description="d")
    opened = open_incidents(case(finding("f-1")))
    sim.world.calls.clear()
    planned = open_incidents(batch, ctx=context(effects="plan"))
    assert outcomes(planned) == ["existing", "planned"]
    related = RelationBatch.model_validate(relate(batch, planned, ctx=context(effects="plan")))
    assert [r.outcome for r in related.relations] == ["planned"]
    done = update(batch, planned, actions={"waf": actions()}, ctx=context(effects="plan"))
    assert [u["outcome"] for u in done["updates"]] == ["planned: a comment would be added"]
    assert writes(sim) == []
    assert house_module.ledger().incidents.get(marks.marker("f-2")) is None
    assert IncidentBatch.model_validate(opened).incidents[0].unique_id == planned["incidents"][0]["unique_id"]


# --- threat intel -------------------------------------------------------------------------------------------


def test_bad_values_are_attached_and_protected_or_claimed_ones_never(sim: SimServer) -> None:
    batch = case(
        finding("f-1"),
        seen={
            ATTACKER: [("f-1", Role.ATTACKER)],
            EVIL: [("f-1", Role.DESTINATION)],
            "203.0.113.99": [("f-1", Role.CLAIM)],
            "203.0.113.98": [("f-1", Role.VICTIM)],
            OWN: [("f-1", Role.ATTACKER)],  # never_block.own of the demo's policy
            "198.51.100.201": [("f-1", Role.ATTACKER)],  # a partner's
            "10.0.0.8": [("f-1", Role.ATTACKER)],
        },
    )
    open_incidents(batch)
    assert sorted(ioc["value"] for ioc in sim.state(PRODUCT)["iocs"]) == [ATTACKER, EVIL]
    assert len(links(sim, "incident", "ioc_ip")) == len(links(sim, "incident", "ioc_domain")) == 1


@pytest.mark.parametrize(
    ("standing", "attached"),
    [(Standing.SUSPICIOUS, [ATTACKER]), (Standing.UNKNOWN, []), (Standing.BENIGN, [])],
)
def test_what_nobody_speaks_against_is_not_threat_intel(
    sim: SimServer, standing: Standing, attached: list[str]
) -> None:
    batch = case(finding("f-1"))
    open_incidents(batch, decision(batch, standing=standing))
    assert [ioc["value"] for ioc in sim.state(PRODUCT)["iocs"]] == attached


@pytest.mark.parametrize(
    "path", ["/v1/incident/$", "bulk-create", "link-components", "/v1/incident/.*/connect-the-dots"]
)
def test_a_lost_answer_anywhere_leaves_one_of_each(sim: SimServer, path: str) -> None:
    batch = case(finding("f-1"), seen={ATTACKER: [("f-1", Role.ATTACKER)], SECOND: [("f-1", Role.ATTACKER)]})
    sim.fault(PRODUCT, "reset_after_commit", path=path, method=None if "dots" in path else "POST")
    until_done(lambda ctx: open_incidents(batch, ctx=ctx))
    open_incidents(batch, ctx=context("again"))
    assert len(incidents(sim)) == 1
    assert len(sim.state(PRODUCT)["iocs"]) == 2
    assert sorted(count for *_, count in links(sim, "incident", "ioc_ip")) == ["1", "1"]


@pytest.mark.parametrize("told", ["all", "none"])
def test_threat_intel_that_exists_is_reused(sim: SimServer, told: str) -> None:
    sim.configure(PRODUCT, bulk_create_answer=told, bulk_create_existing="refuse")
    sim.seed(PRODUCT, {"iocs": [{"ioc_type": "ioc_ip", "value": ATTACKER}]})
    open_incidents(case(finding("f-1")))
    assert len(sim.state(PRODUCT)["iocs"]) == len(links(sim, "incident", "ioc_ip")) == 1


def test_a_refused_value_is_told_and_the_others_are_attached(sim: SimServer) -> None:
    seen = {ATTACKER: [("f-1", Role.ATTACKER)], "no_such_name": [("f-1", Role.DESTINATION)]}
    ctx = context()
    with pytest.raises(Rejected):
        open_incidents(case(finding("f-1"), seen=seen), ctx=ctx)
    [ref] = IncidentBatch.model_validate(ctx["ti"].pushed["return_value"]).incidents
    assert (ref.outcome, ref.detail) == (IncidentOutcome.CREATED, "1 indicators were refused")
    assert len(links(sim, "incident", "ioc_ip")) == 1


def test_a_connection_that_does_not_hold_is_noticed(sim: SimServer) -> None:
    sim.fault(PRODUCT, "merge", path="connect-the-dots/$", method="GET", patch={"ioc_ip": None}, times=-1)
    ctx = context()
    with pytest.raises(Unexpected, match="not there"):
        open_incidents(case(finding("f-1")), ctx=ctx)
    assert outcomes(ctx["ti"].pushed["return_value"]) == ["created"]


# --- relating -----------------------------------------------------------------------------------------------


def test_older_incidents_with_a_shared_indicator_are_related_once(sim: SimServer) -> None:
    older_case(sim, "by hand", 2, ATTACKER, description="d")
    older_case(sim, "something else", 2, SECOND, description="d")
    batch = case(finding("f-1"))
    opened = open_incidents(batch)
    for _ in range(2):
        [relation] = RelationBatch.model_validate(relate(batch, opened)).relations
        by_hand, other, ours = incidents(sim)
        assert (relation.outcome, relation.detail) == ("related", "")
        assert (relation.incident_id, relation.related_id) == (ours["unique_id"], by_hand["unique_id"])
        assert relation.shared == (observable(ATTACKER),)
        [told] = comments(sim, by_hand["unique_id"])
        assert marks.relation_reference(by_hand["unique_id"], ours["unique_id"]) in told
        assert ours["readable_id"] in told
        assert comments(sim, other["unique_id"]) == comments(sim, ours["unique_id"]) == []
        [(*pair, posted)] = links(sim, "incident", "incident")
        assert (sorted(pair), posted) == (sorted([by_hand["unique_id"], ours["unique_id"]]), "1")


@pytest.mark.parametrize("call", ["advanced", "flat"])
def test_either_call_relates(sim: SimServer, connected: Callable[..., None], call: str) -> None:
    connected(relate_call=call)
    older_case(sim, "by hand", 2, ATTACKER, description="d")
    batch = case(finding("f-1"))
    relate(batch, open_incidents(batch))
    assert len(links(sim, "incident", "incident")) == 1


def test_which_incidents_are_related(sim: SimServer) -> None:
    older_case(sim, "too old", 31, ATTACKER)
    older_case(sim, "closed", 3, ATTACKER, status="closed")
    older_case(sim, "merged", 3, ATTACKER, status="merged")
    for day in range(4, 16):
        older_case(sim, f"{day} days", day, ATTACKER)
    batch = case(finding("f-1"))
    opened = open_incidents(batch)
    older_case(sim, "younger", -0.01, ATTACKER)
    found = RelationBatch.model_validate(relate(batch, opened)).relations
    titles = {i["unique_id"]: i["title"] for i in incidents(sim)}
    # policy.related: 30 days, the 10 most recent
    assert [titles[r.related_id] for r in found] == ["closed", *(f"{day} days" for day in range(4, 13))]
    assert all(len(comments(sim, r.related_id)) == 1 for r in found)
    assert {r.related_id for r in RelationBatch.model_validate(relate(batch, opened)).relations} == {
        r.related_id for r in found
    }


def test_incidents_of_one_run_are_related_too_each_pair_once(sim: SimServer) -> None:
    batch = case(finding("f-1"), finding("f-2"), finding("f-3"))
    opened = open_incidents(batch)
    for _ in range(2):
        assert len(relate(batch, opened)["relations"]) == 3
        assert [posted for *_, posted in links(sim, "incident", "incident")] == ["1", "1", "1"]
        first, second, third = incidents(sim)
        assert [len(comments(sim, i["unique_id"])) for i in (first, second, third)] == [2, 1, 0]


@pytest.mark.parametrize("path", ["comments/incident", "advanced-link", "connect-the-dots/$"])
def test_a_lost_answer_leaves_one_comment_and_one_relationship(sim: SimServer, path: str) -> None:
    older_case(sim, "by hand", 2, ATTACKER, description="d")
    batch = case(finding("f-1"))
    opened = open_incidents(batch)
    method = "GET" if path.endswith("$") else "POST"
    sim.fault(PRODUCT, "reset_after_commit", path=path, method=method)
    until_done(lambda ctx: relate(batch, opened, ctx=ctx))
    relate(batch, opened)
    assert len(comments(sim, incidents(sim)[0]["unique_id"])) == 1
    assert [posted for *_, posted in links(sim, "incident", "incident")] == ["1"]


def test_a_comment_that_is_refused_still_leaves_the_relationship(sim: SimServer) -> None:
    older_case(sim, "by hand", 2, ATTACKER, description="d")
    batch = case(finding("f-1"))
    opened = open_incidents(batch)
    sim.fault(PRODUCT, "status", path="comments/incident", method="POST", status=400, detail="paused")
    ctx = context()
    with pytest.raises(Rejected):
        relate(batch, opened, ctx=ctx)
    [relation] = RelationBatch.model_validate(ctx["ti"].pushed["return_value"]).relations
    assert relation.outcome == "failed"
    assert "paused" in relation.detail
    assert len(links(sim, "incident", "incident")) == 1


def test_connections_without_values_are_resolved_by_the_list(sim: SimServer, connected: Callable[..., None]) -> None:
    older_case(sim, "by hand", 2, ATTACKER, description="d")
    batch = case(finding("f-1"))
    opened = open_incidents(batch)
    connected_ids = [ioc["unique_id"] for ioc in sim.state(PRODUCT)["iocs"]]
    bare = {"ioc_ip": [{"unique_id": unique_id} for unique_id in connected_ids]}
    sim.fault(PRODUCT, "merge", path="/v1/incident/.*/connect-the-dots", method="GET", patch=bare)
    assert [r["outcome"] for r in relate(batch, opened)["relations"]] == ["related"]


def test_another_identifier_for_threat_intel_is_one_change(sim: SimServer, connected: Callable[..., None]) -> None:
    sim.configure(PRODUCT, ioc_component="threat-intel")
    older_case(sim, "by hand", 2, ATTACKER, description="d")
    batch = case(finding("f-1"))
    opened = open_incidents(batch)
    with pytest.raises(Rejected):
        relate(batch, opened)
    connected(ioc_component="threat-intel")
    assert len(relate(batch, opened)["relations"]) == 1


# --- updating -----------------------------------------------------------------------------------------------


def test_the_incident_tells_the_whole_story_once(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
    refused = Refusal(
        observable=observable(OWN),
        layer="own",
        list_name="policy.yaml never_block.own.networks",
        entry="192.0.2.0/28",
        reason="192.0.2.0/28 is ours",
        finding_uids=("f-1",),
    )
    seen = {value: [("f-1", Role.ATTACKER)] for value in (ATTACKER, OWN)}
    batch = case(finding("f-1"), seen=seen)
    decided = decision(batch, refusals=(refused,), silent=("list_feed",))
    opened = open_incidents(batch, decided)
    for run_id, changed in (("manual__1", True), ("scheduled__2", False)):
        update(
            batch,
            opened,
            decided,
            actions={"waf": actions(changed=changed), "edr.crowdstrike_falcon": None},
            relations=None,
            ctx=context(run_id),
        )
    [told] = comments(sim, incidents(sim)[0]["unique_id"])
    text = clean.render_text(told)
    assert "Response: 1 blocked" in text
    assert "akamai_client_lists | deny | 203[.]0[.]113[.]10 | blocked" in text
    assert "list 91596_SOCAUTOBLOCK, version 3 | on the list" in text
    assert f"{NOW + timedelta(days=7):%Y-%m-%d %H:%M:%S} UTC" in text
    assert "192[.]0[.]2[.]5 | own | policy.yaml never_block.own.networks | 192.0.2.0/28 | 192.0.2.0/28 is ours" in text
    assert "203[.]0[.]113[.]10 | ipv4-addr; attacker (attacker.ip) | malicious 72 | abuseipdb" in text
    assert "edr.crowdstrike_falcon" in text
    assert "list_feed" in text
    assert 'href="https://airflow.example/dags/api_threat_response/runs/manual__1"' in told
    assert incidents(sim)[0]["labels"] == ["auto-onboarded", "akamai-api-security", "blocked"]


def test_a_changed_state_adds_exactly_one_comment(sim: SimServer) -> None:
    batch = case(finding("f-1"))
    opened = open_incidents(batch)
    unique_id = incidents(sim)[0]["unique_id"]
    states = [
        (Outcome.PENDING, "block-pending", 1),
        (Outcome.PENDING, "block-pending", 1),
        (Outcome.BLOCKED, "blocked", 2),
        (Outcome.PENDING, "block-pending", 3),  # back again is news again
        (Outcome.PENDING, "block-pending", 3),
    ]
    for outcome, label, count in states:
        sim.world.clock.advance(1)
        update(batch, opened, actions={"waf": actions(outcome=outcome)})
        assert len(comments(sim, unique_id)) == count
        assert label in incidents(sim)[0]["labels"]
        assert ("block-pending" in incidents(sim)[0]["labels"]) == (outcome is Outcome.PENDING)


def test_labels_of_analysts_stay_and_an_equal_set_is_not_written(sim: SimServer) -> None:
    batch = case(finding("f-1"))
    opened = open_incidents(batch)
    held = sim.world.simulators[PRODUCT].incidents[incidents(sim)[0]["unique_id"]]  # type: ignore[attr-defined]
    held["labels"] = ["akamai-sia"]
    update(batch, opened, actions={"waf": actions()})
    assert incidents(sim)[0]["labels"] == ["akamai-sia", "blocked"]
    sim.world.calls.clear()
    update(batch, opened, actions={"waf": actions()})
    assert writes(sim) == []


@pytest.mark.parametrize(("path", "method"), [("comments/incident", "POST"), ("/v1/incident/", "PUT")])
def test_a_lost_answer_leaves_one_report(sim: SimServer, path: str, method: str) -> None:
    batch = case(finding("f-1"))
    opened = open_incidents(batch)
    sim.fault(PRODUCT, "reset_after_commit", path=path, method=method)
    until_done(lambda ctx: update(batch, opened, actions={"waf": actions()}, ctx=ctx))
    update(batch, opened, actions={"waf": actions()})
    assert len(comments(sim, incidents(sim)[0]["unique_id"])) == 1
    assert incidents(sim)[0]["labels"][-1] == "blocked"


def test_one_incident_that_cannot_be_updated_costs_itself_only(sim: SimServer) -> None:
    batch = case(finding("f-1"), finding("f-2"))
    opened = open_incidents(batch)
    first, second = (i["unique_id"] for i in incidents(sim))
    sim.fault(PRODUCT, "status", path=f"comments/incident/{first}", method="POST", status=400, detail="paused")
    ctx = context()
    with pytest.raises(Rejected):
        update(batch, opened, actions={"waf": actions()}, ctx=ctx)
    told = [u["outcome"] for u in ctx["ti"].pushed["return_value"]["updates"]]
    assert told[0].startswith("failed")
    assert told[1].startswith("comment added")
    assert len(comments(sim, second)) == 1


def test_a_merged_incident_is_left_alone(sim: SimServer) -> None:
    sim.seed(PRODUCT, {"incidents": [{"title": f"x [{marks.marker('f-1')}]", "status": "merged"}]})
    batch = case(finding("f-1"))
    opened = open_incidents(batch)
    assert relate(batch, opened)["relations"] == []
    [told] = update(batch, opened, actions={"waf": actions()})["updates"]
    assert "merged" in told["outcome"]
    assert writes(sim) == []


def test_without_incidents_it_fails_and_says_why() -> None:
    batch = case(finding("f-1"))
    for run in (update, relate):
        with pytest.raises(Unexpected, match="open_incidents gave no batch"):
            run(batch, None)


def test_planned_and_failed_incidents_are_passed_over(sim: SimServer) -> None:
    batch = case(finding("f-1"))
    planned = open_incidents(batch, ctx=context(effects="plan"))
    sim.world.calls.clear()
    assert relate(batch, planned)["relations"] == []
    assert update(batch, planned)["updates"] == []
    assert sim.calls(PRODUCT) == []


def test_markup_of_an_attacker_is_shown_and_never_rendered(sim: SimServer) -> None:
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)>\x1b[31m'
    batch = case(finding("f-1", title=evil, description=evil, target=evil, vendor_id=evil, category=evil, tags=(evil,)))
    older_case(sim, "by hand", 2, ATTACKER, description="d")
    opened = open_incidents(batch)
    relate(batch, opened)
    update(batch, opened, actions={"waf": actions(detail=evil), evil: None})
    by_hand, ours = incidents(sim)
    texts = [ours["description"], *comments(sim, ours["unique_id"]), *comments(sim, by_hand["unique_id"])]
    assert len(texts) == 3
    for text in (*texts, ours["title"]):
        assert "<script" not in text
        assert "<img" not in text
        assert "\x1b" not in text
    assert all("&lt;script&gt;alert(&quot;x&quot;)" in text for text in texts)


def test_the_worst_error_is_what_a_person_must_mend_then_what_a_retry_can() -> None:
    kinds = [Rejected, Unavailable, RateLimited, Unexpected, Unauthorized]
    errors = [kind("v", "o", "r") for kind in kinds]
    for n in range(len(errors), 0, -1):
        assert type(worst(errors[:n])) is kinds[n - 1]


def test_two_runs_do_not_comment_at_once(sim: SimServer) -> None:
    """While another run holds the claim on an incident's comments ours waits for its retry, and writes nothing."""
    batch = case(finding("f-1"))
    opened = open_incidents(batch)
    unique_id = incidents(sim)[0]["unique_id"]
    ledger = house_module.ledger()
    now = house_module.now()
    assert ledger.claims.take(f"comment:{unique_id}", by="dag/other", now=now, lease=timedelta(minutes=2))
    with pytest.raises(Unavailable):
        update(batch, opened, actions={"waf": actions()})
    assert comments(sim, unique_id) == []
    ledger.claims.release(f"comment:{unique_id}", by="dag/other")
    update(batch, opened, actions={"waf": actions()})
    assert len(comments(sim, unique_id)) == 1
