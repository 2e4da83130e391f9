"""The Cyware Respond simulator against what the vendor's reference says, over HTTP, with a client of our own here."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
import requests

from tests.support import SimServer, start_simulators

OPENAPI = "/cftrapi/openapi"
INCIDENTS = "/v1/incident/"
NAMES = {"values": "readable_type"}
NOWHERE = "00000000-0000-4000-8000-000000000000"

#: The sample request of the reference's "Create ... Using Field Values", with this tenant's options.
INCIDENT = {
    "title": "[Akamai API Security] Credential stuffing on /v2/login (evt 8f31c0)",
    "description": "<p>Akamai API Security event <b>8f31c0</b></p>",
    "status": "open",
    "level": "High",
    "ie_incident_type": "Hacking",
    "sources": "Akamai API Security",
    "assigned_group": "SOC L1",
    "business_units_impacted": ["E-Commerce"],
    "detection_date": "2026-01-18T07:38:50.000Z",
    "attack_vector": "Network",
    "source_ip": "203.0.113.10",
    "labels": ["akamai-api-security", "auto-onboarded"],
    "phase": "Detection Analysis",
}


def sign(access_id: str, secret: str, expires: int) -> str:
    mac = hmac.new(secret.encode(), f"{access_id}\n{expires}".encode(), hashlib.sha1)
    return base64.b64encode(mac.digest()).decode()


class Tenant:
    """Signs each call afresh, by the simulator's clock, with 20 seconds to live as the reference advises."""

    def __init__(self, sim: SimServer) -> None:
        self.sim = sim

    def now(self) -> int:
        return int(self.sim.world.clock.timestamp())

    def signature(self, ttl: int = 20) -> dict[str, Any]:
        expires = self.now() + ttl
        return {"AccessID": "sim-access", "Expires": expires, "Signature": sign("sim-access", "sim-secret", expires)}

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> requests.Response:
        return requests.request(
            method,
            self.sim.url + OPENAPI + path,
            params={**self.signature(), **params},
            json=body,
            timeout=10,
            allow_redirects=False,
        )

    def get(self, path: str, **params: Any) -> requests.Response:
        return self.call("GET", path, **params)

    def post(self, path: str, body: Any, **params: Any) -> requests.Response:
        return self.call("POST", path, body, **params)

    def put(self, path: str, body: Any, **params: Any) -> requests.Response:
        return self.call("PUT", path, body, **params)

    def create(self, **changes: Any) -> dict[str, Any]:
        answer = self.post(INCIDENTS, {**INCIDENT, **changes}, **NAMES)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def iocs(self, **values: list[str]) -> dict[str, str]:
        answer = self.post("/v1/ioc-module/ioc/bulk-create/", values)
        assert answer.status_code == 201, answer.text
        return {ioc["value"]: ioc["unique_id"] for iocs in answer.json().values() for ioc in iocs}

    def uuid(self, path: str, name_key: str, name: str) -> str:
        return next(o["unique_id"] for o in self.get(path).json()["results"] if o[name_key] == name)

    def clock(self, **change: Any) -> None:
        assert requests.post(f"{self.sim.url}/_sim/clock", json=change, timeout=10).status_code == 200

    def state(self) -> dict[str, Any]:
        return self.sim.state("cyware_respond")


@pytest.fixture(scope="module")
def respond_server() -> Iterator[SimServer]:
    server = start_simulators(["cyware_respond"])
    yield server
    server.stop()


@pytest.fixture
def sim(respond_server: SimServer) -> SimServer:
    respond_server.world.reset()
    return respond_server


@pytest.fixture
def respond(sim: SimServer) -> Tenant:
    return Tenant(sim)


class TestSignature:
    @pytest.mark.parametrize(
        ("access_id", "secret", "expires", "encoded", "now"),
        [
            (
                "test-access-id",
                "test-secret-key",
                1700000020,
                "4k4wpZcARBUiIC88M8naxR3T1Ug%3D",
                "2023-11-14T22:13:20Z",
            ),
            (
                "test-access-id",
                "test-secret-key",
                1700000014,
                "A1N6JsqBmzr%2BOPv2JyGmDm%2Fb6yA%3D",
                "2023-11-14T22:13:20Z",
            ),
            ("sim-access", "sim-secret", 1767225600, "SqaTi53YZVInIxb9mICLW2iknHI%3D", "2025-12-31T23:59:55Z"),
        ],
    )
    def test_published_vectors_are_accepted(self, respond, sim, access_id, secret, expires, encoded, now):
        sim.configure("cyware_respond", access_id=access_id, secret_key=secret)
        respond.clock(now=now)
        url = f"{sim.url}{OPENAPI}/test-connectivity/?Expires={expires}&AccessID={access_id}&Signature={encoded}"
        assert requests.get(url, timeout=10).status_code == 200

    def test_a_raw_plus_is_read_as_a_space_and_refused(self, respond, sim):
        sim.configure("cyware_respond", access_id="test-access-id", secret_key="test-secret-key")
        respond.clock(now="2023-11-14T22:13:20Z")
        query = "AccessID=test-access-id&Expires=1700000014&Signature=A1N6JsqBmzr+OPv2JyGmDm/b6yA="
        answer = requests.get(f"{sim.url}{OPENAPI}/test-connectivity/?{query}", timeout=10)
        assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid Signature."})

    def test_a_signature_dies_when_its_time_is_over(self, respond):
        used = respond.signature()
        assert respond.get("/test-connectivity/", **used).status_code == 200
        respond.clock(advance_seconds=21)
        late = respond.get("/test-connectivity/", **used)
        assert (late.status_code, late.json()) == (401, {"detail": "Signature has expired."})

    def test_only_a_little_future_is_accepted(self, respond, sim):
        assert respond.get("/test-connectivity/", **respond.signature(ttl=30)).status_code == 200
        assert respond.get("/test-connectivity/", **respond.signature(ttl=90)).status_code == 401
        sim.configure("cyware_respond", max_ttl=20)
        assert respond.get("/test-connectivity/", **respond.signature(ttl=60)).status_code == 401

    def test_a_drifting_server_clock_looks_like_a_bad_key(self, respond, sim):
        sim.configure("cyware_respond", clock_skew_seconds=120, auth_status=403)
        assert respond.get("/test-connectivity/").status_code == 403

    @pytest.mark.parametrize(
        "change",
        [
            {"AccessID": "someone-else"},
            {"AccessID": None},
            {"Expires": "soon"},
            {"Expires": None},
            {"Signature": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="},
            {"Signature": None},
            {"Signature": "é"},
        ],
    )
    def test_anything_else_is_refused_and_changes_nothing(self, respond, change):
        answer = respond.post(INCIDENTS, INCIDENT, **{**NAMES, **change})
        assert answer.status_code == 401
        assert isinstance(answer.json()["detail"], str)
        assert respond.state()["incidents"] == []

    def test_a_wrong_secret_is_refused(self, respond, sim):
        sim.configure("cyware_respond", secret_key="rotated")
        assert respond.get(INCIDENTS).status_code == 401

    def test_bearer_only_where_the_tenant_has_it(self, sim):
        def ask(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return requests.get(f"{sim.url}{OPENAPI}/test-connectivity/", headers=headers, timeout=10).status_code

        assert ask("open-sesame") == 401
        sim.configure("cyware_respond", bearer_token="open-sesame")
        assert (ask("open-sesame"), ask("wrong")) == (200, 401)

    def test_the_call_log_does_not_show_the_proof_of_identity(self, respond, sim):
        signature = respond.signature()
        respond.get("/test-connectivity/", **signature)
        assert signature["Signature"] not in str(sim.calls("cyware_respond"))


class TestCreate:
    def test_by_names(self, respond):
        made = respond.create()
        assert UUID(made["unique_id"]).version == 4
        assert made["readable_id"] == "INC100"
        detail = respond.get(f"{INCIDENTS}{made['unique_id']}/").json()
        assert detail == made
        assert {key: detail[key] for key in INCIDENT} == INCIDENT
        assert respond.state()["incidents"] == [made]

    def test_by_uuid(self, respond):
        sources = respond.uuid("/v1/utils/source/", "value", "Akamai SIA")
        group = respond.uuid("/v1/rest-auth/permission/group/", "name", "CFTR Admin")
        unit = respond.uuid("/v1/utils/business-unit/", "title", "E-Commerce")
        user = respond.uuid("/v1/rest-auth/user/", "email", "analyst@soc.example")
        label = respond.uuid("/v1/utils/label/", "title", "blocked")
        body = {
            **INCIDENT,
            "sources": sources,
            "assigned_group": group,
            "assigned_to": user,
            "business_units_impacted": unit,
            "labels": [label],
        }
        answer = respond.post(INCIDENTS, body)
        assert answer.status_code == 201
        assert answer.json()["sources"] == "Akamai SIA"
        assert answer.json()["labels"] == ["blocked"]

    def test_names_are_refused_where_uuids_are_expected(self, respond):
        answer = respond.post(INCIDENTS, INCIDENT)
        assert answer.status_code == 400
        assert set(answer.json()) == {"sources", "assigned_group", "business_units_impacted", "labels"}

    def test_uuids_are_refused_where_names_are_expected(self, respond):
        source = respond.uuid("/v1/utils/source/", "value", "Email")
        answer = respond.post(INCIDENTS, {**INCIDENT, "sources": source}, **NAMES)
        assert (answer.status_code, set(answer.json())) == (400, {"sources"})

    def test_business_units_are_a_list_of_names_or_one_uuid(self, respond):
        unit = respond.uuid("/v1/utils/business-unit/", "title", "E-Commerce")
        made = respond.create()
        path = f"{INCIDENTS}{made['unique_id']}/"
        assert respond.put(path, {"business_units_impacted": "E-Commerce"}, **NAMES).status_code == 400
        assert respond.put(path, {"business_units_impacted": [unit]}).status_code == 400
        assert respond.put(path, {"business_units_impacted": unit}).status_code == 200

    def test_required_fields_come_from_the_form(self, respond, sim):
        answer = respond.post(INCIDENTS, {"title": "bare"}, **NAMES)
        assert answer.status_code == 400
        assert answer.json()["level"] == ["This field is required."]
        assert "title" not in answer.json()
        sim.configure("cyware_respond", form={"required": ["title"]})
        assert respond.post(INCIDENTS, {"title": "bare"}, **NAMES).status_code == 201

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("severity", "High"),
            ("level", "Very High"),
            ("level", "high"),
            ("ie_incident_type", "Unheard of"),
            ("phase", "Containment, Eradication"),
            ("status", "Open"),
            ("status", "merged"),
            ("sources", "Akamai"),
            ("sources", ["Email"]),
            ("assigned_group", "SOC L9"),
            ("assigned_to", "nobody@soc.example"),
            ("labels", "blocked"),
            ("labels", ["blocked", "no-such-label"]),
            ("title", "  "),
            ("title", None),
            ("description", 7),
            ("detection_date", "18 January 2026"),
            ("detection_date", 1768721930),
            ("source_ip", "203.0.113.10, 203.0.113.11"),
            ("is_protected", True),
        ],
    )
    def test_what_the_form_does_not_allow_is_refused_by_field(self, respond, field, value):
        answer = respond.post(INCIDENTS, {**INCIDENT, field: value}, **NAMES)
        assert answer.status_code == 400
        assert set(answer.json()) == {field}
        assert all(isinstance(message, str) for message in answer.json()[field])
        assert respond.state()["incidents"] == []

    def test_custom_fields_are_ordinary_keys_of_the_form(self, respond, sim):
        sim.configure("cyware_respond", form={"custom_fields": {"ie_event_id": "text", "ie_tier": ["1", "2"]}})
        assert respond.create(ie_event_id="8f31c0", ie_tier="2")["ie_event_id"] == "8f31c0"
        assert respond.post(INCIDENTS, {**INCIDENT, "ie_tier": "3"}, **NAMES).status_code == 400

    def test_only_json_objects(self, respond, sim):
        url = sim.url + OPENAPI + INCIDENTS

        def send(data: str, content_type: str) -> requests.Response:
            headers = {"Content-Type": content_type}
            return requests.post(url, params=respond.signature(), data=data, headers=headers, timeout=10)

        assert send("{", "application/json").status_code == 400
        assert send("[]", "application/json").json()["non_field_errors"]
        assert send("title=x", "application/x-www-form-urlencoded").status_code == 415

    def test_unknown_query_is_refused_unless_told_otherwise(self, respond, sim):
        assert respond.get(INCIDENTS, status="open").json() == {"status": ["Unknown query parameter."]}
        assert respond.post(INCIDENTS, INCIDENT, values="names").status_code == 400
        sim.configure("cyware_respond", unknown_query="ignore")
        assert respond.get(INCIDENTS, status="open").status_code == 200


def seed_incidents(sim: SimServer, n: int) -> None:
    """``old 0`` is the oldest; told in another order, so that only ``created`` can sort them."""
    order = sorted(range(n), key=lambda i: i % 3)
    records = [{"title": f"old {i}", "created": f"2026-01-01T00:{i:02}:00Z"} for i in order]
    sim.seed("cyware_respond", {"incidents": records})


class TestList:
    @pytest.mark.parametrize("envelope", ["top", "link"])
    def test_pages_newest_first(self, respond, sim, envelope):
        sim.configure("cyware_respond", envelope=envelope)
        seed_incidents(sim, 25)
        titles, sizes = [], []
        for page in (1, 2, 3):
            body = respond.get(INCIDENTS, page=page, page_size=10).json()
            links = body["link"] if envelope == "link" else body
            assert body["count"] == 25
            assert (links["next"] is None) == (page == 3)
            assert (links["previous"] is None) == (page == 1)
            sizes.append(len(body["results"]))
            titles += [row["title"] for row in body["results"]]
        assert sizes == [10, 10, 5]
        assert titles == [f"old {i}" for i in reversed(range(25))]

    def test_page_size_is_ten_unless_asked_and_at_most_a_hundred(self, respond, sim):
        sim.seed("cyware_respond", {"incidents": [{"title": f"{i}"} for i in range(105)]})
        assert len(respond.get(INCIDENTS).json()["results"]) == 10
        assert len(respond.get(INCIDENTS, page_size=500).json()["results"]) == 100
        assert len(respond.get("/v1/incident/qb/extended/", page_size=2).json()["results"]) == 2

    def test_after_the_last_page(self, respond, sim):
        seed_incidents(sim, 10)
        answer = respond.get(INCIDENTS, page=2)
        assert (answer.status_code, answer.json()) == (404, {"detail": "Invalid page."})
        sim.configure("cyware_respond", past_end="empty")
        assert respond.get(INCIDENTS, page=2).json()["results"] == []

    def test_an_empty_tenant_has_one_empty_page(self, respond):
        assert respond.get(INCIDENTS, page=1).json() == {"next": None, "previous": None, "count": 0, "results": []}

    def test_the_next_link_carries_the_old_signature(self, respond, sim):
        seed_incidents(sim, 12)
        following = respond.get(INCIDENTS).json()["next"]
        assert parse_qs(urlsplit(following).query)["page"] == ["2"]
        assert len(requests.get(following, timeout=10).json()["results"]) == 2
        respond.clock(advance_seconds=30)
        assert requests.get(following, timeout=10).status_code == 401

    def test_a_tenant_without_next_links(self, respond, sim):
        sim.configure("cyware_respond", next_link=False)
        seed_incidents(sim, 12)
        assert respond.get(INCIDENTS).json()["next"] is None

    def test_created_between_epoch_seconds_both_ends_included(self, respond, sim):
        seed_incidents(sim, 5)
        start = 1767225600  # 2026-01-01T00:00:00Z
        window = {"created_date__gte": start + 60, "created_date__lte": start + 180}
        rows = respond.get(INCIDENTS, **window).json()["results"]
        assert [row["title"] for row in rows] == ["old 3", "old 2", "old 1"]
        assert respond.get(INCIDENTS, created_date__gte="2026-01-01T00:00:00Z").status_code == 400

    def test_rows_are_poorer_than_the_detail(self, respond):
        made = respond.create()
        [row] = respond.get(INCIDENTS).json()["results"]
        assert "description" not in row
        assert row["unique_id"] == made["unique_id"]
        assert row["readable_id"] == made["readable_id"]
        assert (row["title"], row["status"], row["created"]) == (made["title"], made["status"], made["created"])

    def test_readable_ids_open_the_advanced_paths_only(self, respond):
        made = respond.create()
        assert respond.get("/v1/incident/qb/extended/INC100/").json() == made
        assert respond.get(f"/v1/incident/qb/extended/{made['unique_id']}/").json() == made
        assert respond.get(f"{INCIDENTS}INC100/").status_code == 404
        assert respond.get(f"{INCIDENTS}{NOWHERE}/").json() == {"detail": "Not found."}

    def test_a_late_incident_is_not_there_before_its_time(self, respond, sim):
        respond.clock(now="2026-02-01T00:00:00Z")
        sim.seed("cyware_respond", {"incidents": [{"title": "late", "_available_at": "2026-02-01T00:10:00Z"}]})
        assert respond.get(INCIDENTS).json()["count"] == 0
        respond.clock(advance_seconds=601)
        [row] = respond.get(INCIDENTS).json()["results"]
        detail = respond.get(f"{INCIDENTS}{row['unique_id']}/").json()
        assert not [key for key in detail if key.startswith("_")]

    def test_a_wrong_seed_is_an_error(self, sim):
        for seed in ({"incidents": [{"titel": "typo"}]}, {"tickets": []}, {"iocs": [{"ioc_type": "ip", "value": "x"}]}):
            answer = requests.post(f"{sim.url}/_sim/cyware_respond/seed", json=seed, timeout=10)
            assert answer.status_code == 400


class TestAdvancedSearch:
    PATH = "/v1/utils/advanced-search-per-key/incident/"

    def test_and_or_over_form_fields(self, respond):
        first = respond.create(source_ip="203.0.113.10", level="High")
        second = respond.create(source_ip="203.0.113.11", level="High")

        def found(**criteria: Any) -> list[str]:
            answer = respond.post(self.PATH, {**criteria, "operator_search_type": "exact_match"})
            assert answer.status_code == 200, answer.text
            return [row["unique_id"] for row in answer.json()["results"]]

        assert found(source_ip="203.0.113.10", level="High", operator="AND") == [first["unique_id"]]
        assert found(source_ip="203.0.113.10", level="Low", operator="AND") == []
        both = [second["unique_id"], first["unique_id"]]
        assert found(source_ip="203.0.113.10", level="High", operator="OR") == both
        group = respond.uuid("/v1/rest-auth/permission/group/", "name", "SOC L1")
        assert found(assigned_group=group, operator="AND") == both

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"operator": "AND"},
            {"no_such_field": "x"},
            {"title": "x", "operator": "XOR"},
            {"title": "x", "operator_search_type": "fuzzy"},
            {"assigned_group": "SOC L1"},
        ],
    )
    def test_refusals(self, respond, body):
        assert respond.post(self.PATH, body).status_code == 400


class TestUpdate:
    def test_put_changes_only_what_it_names(self, respond):
        made = respond.create()
        respond.clock(advance_seconds=60)
        answer = respond.put(f"{INCIDENTS}{made['unique_id']}/", {"phase": "Containment"})
        assert answer.status_code == 200
        after = answer.json()
        assert after["modified"] > made["modified"]
        assert {**after, "modified": made["modified"]} == {**made, "phase": "Containment"}

    def test_description_beside_comment_type_is_a_note(self, respond):
        made = respond.create()
        body = {"assigned_to": "analyst@soc.example", "comment_type": "handoff", "description": "Note for the shift"}
        after = respond.put(f"{INCIDENTS}{made['unique_id']}/", body, **NAMES).json()
        assert after["description"] == INCIDENT["description"]
        assert after["assigned_to"] == "analyst@soc.example"
        [note] = respond.state()["comments"][made["unique_id"]]
        assert (note["description"], note["comment_type"]) == ("Note for the shift", "handoff")

    def test_description_alone_is_the_description(self, respond):
        made = respond.create()
        after = respond.put(f"{INCIDENTS}{made['unique_id']}/", {"description": "<p>new</p>"}).json()
        assert after["description"] == "<p>new</p>"
        assert respond.state()["comments"] == {}

    def test_the_other_reading_of_comment_type(self, respond, sim):
        sim.configure("cyware_respond", comment_type_makes_note=False)
        made = respond.create()
        body = {"comment_type": "handoff", "description": "<p>over it</p>"}
        assert respond.put(f"{INCIDENTS}{made['unique_id']}/", body).json()["description"] == "<p>over it</p>"

    def test_close(self, respond):
        made = respond.create()
        path = f"{INCIDENTS}{made['unique_id']}/"
        body = {"status": "closed", "description": "<p>closing this incident</p>", "comment_type": "closure"}
        assert respond.put(path, body).status_code == 200
        detail = respond.get(path).json()
        assert (detail["status"], detail["description"]) == ("closed", INCIDENT["description"])
        assert respond.state()["comments"][made["unique_id"]][0]["comment_type"] == "closure"

    def test_a_tenant_may_want_actions_closed_first(self, respond, sim):
        sim.configure("cyware_respond", close_needs_closed_actions=True)
        made = respond.create()
        action = respond.post("/v1/action/", {"title": "Block IPs on Firewall"}).json()
        links = {"incident": [made["unique_id"]], "action": [action["unique_id"]]}
        assert respond.post("/v1/connect-the-dots/link-components/", links).status_code == 200
        path = f"{INCIDENTS}{made['unique_id']}/"
        assert respond.put(path, {"status": "closed"}).status_code == 400
        assert respond.put(f"/v1/action/{action['unique_id']}/", {"status": "closed"}).status_code == 200
        assert respond.put(path, {"status": "closed"}).status_code == 200

    @pytest.mark.parametrize(
        "body",
        [
            {"comment_type": "gossip", "description": "x"},
            {"comment_type": "handoff"},
            {"comment_type": "handoff", "description": " "},
            {"readable_id": "INC1"},
            {"level": "Whatever"},
        ],
    )
    def test_refusals_change_nothing(self, respond, body):
        made = respond.create()
        assert respond.put(f"{INCIDENTS}{made['unique_id']}/", body).status_code == 400
        assert respond.state()["incidents"] == [made]

    @pytest.mark.parametrize(
        ("rule", "labels"), [("replace", ["blocked"]), ("merge", ["akamai-api-security", "auto-onboarded", "blocked"])]
    )
    def test_labels_replace_or_merge(self, respond, sim, rule, labels):
        sim.configure("cyware_respond", labels_put=rule)
        made = respond.create()
        after = respond.put(f"{INCIDENTS}{made['unique_id']}/", {"labels": ["blocked"]}, **NAMES).json()
        assert after["labels"] == labels

    def test_a_merged_incident_is_read_only(self, respond, sim):
        sim.seed("cyware_respond", {"incidents": [{"title": "old", "status": "merged"}]})
        [held] = respond.state()["incidents"]
        assert respond.put(f"{INCIDENTS}{held['unique_id']}/", {"title": "new"}).status_code == 400
        assert respond.post(f"/v1/comments/incident/{held['unique_id']}/", {"description": "x"}).status_code == 400
        sim.configure("cyware_respond", merged_read_only=False)
        assert respond.put(f"{INCIDENTS}{held['unique_id']}/", {"title": "new"}).status_code == 200

    def test_a_paused_incident_refuses_status_until_work_resumes_it(self, respond, sim):
        sim.seed("cyware_respond", {"incidents": [{"title": "old", "is_paused": True}]})
        path = f"{INCIDENTS}{respond.state()['incidents'][0]['unique_id']}/"
        for change in ({"status": "closed"}, {"phase": "Containment"}):
            assert respond.put(path, change).status_code == 400
        note = {"comment_type": "handoff", "description": "still paused"}
        assert respond.put(path, note).json()["is_paused"] is True
        assert respond.put(path, {"attack_vector": "Network"}).json()["is_paused"] is False
        assert respond.put(path, {"status": "closed"}).status_code == 200


class TestComments:
    def test_posted_and_read_back_newest_first(self, respond):
        made = respond.create()
        path = f"/v1/comments/incident/{made['unique_id']}/"
        for n in (1, 2):
            body = {"description": f"<p>note {n}</p>", "mentioned_users_usernames": []}
            assert respond.post(path, body).status_code == 201
        listed = respond.get(path).json()["results"]
        assert [comment["description"] for comment in listed] == ["<p>note 2</p>", "<p>note 1</p>"]
        assert respond.get("/v1/comments/qb/extended/incident/INC100/").json()["results"] == listed
        assert respond.get(f"{INCIDENTS}{made['unique_id']}/").json()["description"] == INCIDENT["description"]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "description"),
            ({"description": ""}, "description"),
            ({"description": "x", "text": "y"}, "text"),
            ({"description": "x", "mentioned_users_usernames": ["nobody"]}, "mentioned_users_usernames"),
            ({"description": "x", "mentioned_users_usernames": "analyst"}, "mentioned_users_usernames"),
        ],
    )
    def test_refusals(self, respond, body, field):
        made = respond.create()
        answer = respond.post(f"/v1/comments/incident/{made['unique_id']}/", body)
        assert (answer.status_code, set(answer.json())) == (400, {field})

    def test_users_can_be_mentioned_by_username(self, respond):
        made = respond.create()
        body = {"description": "look", "mentioned_users_usernames": ["analyst"]}
        assert respond.post(f"/v1/comments/incident/{made['unique_id']}/", body).status_code == 201

    def test_no_incident_no_comment(self, respond):
        assert respond.post(f"/v1/comments/incident/{NOWHERE}/", {"description": "x"}).status_code == 404


class TestThreatIntel:
    BULK = "/v1/ioc-module/ioc/bulk-create/"

    def test_bulk_create_list_and_detail(self, respond):
        ids = respond.iocs(
            ioc_ip=["203.0.113.10", "2001:db8::1"],
            ioc_domain=["evil.example"],
            ioc_url=["https://evil.example/x"],
            ioc_email=["bad@evil.example"],
            ioc_MD5=["d41d8cd98f00b204e9800998ecf8427e"],
            ioc_SHA1=["da39a3ee5e6b4b0d3255bfef95601890afd80709"],
            ioc_SHA256=["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
        )
        assert len(ids) == 8
        assert respond.get("/v1/ioc-module/ioc/").json()["count"] == 8
        ioc = respond.get(f"/v1/ioc-module/ioc/{ids['203.0.113.10']}/").json()
        assert (ioc["value"], ioc["status"], ioc["tlp"]) == ("203.0.113.10", "none", "WHITE")
        types = {row["identifier"] for row in respond.get("/v1/ioc-module/ioc-type/").json()["results"]}
        assert types == {"ioc_ip", "ioc_domain", "ioc_url", "ioc_email", "ioc_MD5", "ioc_SHA1", "ioc_SHA256"}

    def test_existing_values_keep_their_id(self, respond):
        first = respond.iocs(ioc_ip=["203.0.113.10"], ioc_domain=["evil.example"])
        again = respond.iocs(ioc_ip=["203.0.113.10", "203.0.113.11"], ioc_domain=["EVIL.example"])
        assert again["203.0.113.10"] == first["203.0.113.10"]
        assert again["evil.example"] == first["evil.example"]
        assert len(respond.state()["iocs"]) == 3

    def test_the_same_value_twice_in_one_call_is_one(self, respond):
        assert len(respond.iocs(ioc_ip=["2001:db8::1", "2001:DB8:0::1"])) == 1

    def test_a_tenant_that_answers_without_ids_is_resolved_by_the_list(self, respond, sim):
        sim.configure("cyware_respond", bulk_create_answer="none")
        assert "unique_id" not in respond.post(self.BULK, {"ioc_ip": ["203.0.113.10"]}).text
        [row] = respond.get("/v1/ioc-module/ioc/").json()["results"]
        assert row["value"] == "203.0.113.10"

    def test_a_tenant_that_answers_new_values_only(self, respond, sim):
        sim.configure("cyware_respond", bulk_create_answer="new")
        assert set(respond.iocs(ioc_ip=["203.0.113.10"])) == {"203.0.113.10"}
        assert set(respond.iocs(ioc_ip=["203.0.113.10", "203.0.113.11"])) == {"203.0.113.11"}

    def test_a_tenant_that_refuses_existing_values(self, respond, sim):
        sim.configure("cyware_respond", bulk_create_existing="refuse")
        respond.iocs(ioc_ip=["203.0.113.10"])
        answer = respond.post(self.BULK, {"ioc_ip": ["203.0.113.10", "203.0.113.11"]})
        assert (answer.status_code, set(answer.json())) == (400, {"ioc_ip"})
        assert len(respond.state()["iocs"]) == 1

    @pytest.mark.parametrize(
        ("key", "values"),
        [
            ("ioc_md5", ["d41d8cd98f00b204e9800998ecf8427e"]),
            ("ioc_ip", "203.0.113.10"),
            ("ioc_ip", ["203.0.113.256"]),
            ("ioc_ip", ["evil.example"]),
            ("ioc_domain", ["bad@evil.example"]),
            ("ioc_email", ["evil.example"]),
            ("ioc_url", ["evil.example/x"]),
            ("ioc_SHA1", ["d41d8cd98f00b204e9800998ecf8427e"]),
            ("ioc_domain", [None]),
        ],
    )
    def test_keys_are_case_sensitive_and_values_are_checked(self, respond, key, values):
        answer = respond.post(self.BULK, {key: values, "ioc_ip" if key != "ioc_ip" else "ioc_url": []})
        assert (answer.status_code, set(answer.json())) == (400, {key})
        assert respond.state()["iocs"] == []

    def test_update_status_and_tlp(self, respond):
        ids = respond.iocs(ioc_ip=["203.0.113.10"])
        path = f"/v1/ioc-module/ioc/{ids['203.0.113.10']}/"
        assert respond.put(path, {"status": "blocked", "tlp": "GREEN"}).status_code == 200
        assert respond.put(path, {"status": "Blocked"}).json() == {"status": ['"Blocked" is not a valid choice.']}
        assert respond.put(path, {"tlp": "CLEAR"}).status_code == 400
        assert respond.put(path, {"value": "203.0.113.99"}).status_code == 400
        ioc = respond.get(path).json()
        assert (ioc["value"], ioc["status"], ioc["tlp"]) == ("203.0.113.10", "blocked", "GREEN")

    def test_comment(self, respond):
        [unique_id] = respond.iocs(ioc_ip=["203.0.113.10"]).values()
        assert respond.post(f"/v1/comments/ioc/{unique_id}/", {"description": "seen"}).status_code == 201
        assert respond.state()["ioc_comments"][unique_id][0]["description"] == "seen"
        assert respond.post(f"/v1/comments/ioc/{NOWHERE}/", {"description": "seen"}).status_code == 404


class TestConnectTheDots:
    FLAT = "/v1/connect-the-dots/link-components/"
    ADVANCED = "/v1/connect-the-dots/advanced-link-components/"

    def test_flat_call_links_everything_named_and_reads_back_from_every_end(self, respond):
        new, old = respond.create(title="new")["unique_id"], respond.create(title="old")["unique_id"]
        [ioc] = respond.iocs(ioc_ip=["203.0.113.10"]).values()
        assert respond.post(self.FLAT, {"incident": [new, old], "ioc_ip": [ioc]}).status_code == 200
        assert respond.get(f"/v1/incident/{new}/connect-the-dots/").json() == {
            "incident": [{"unique_id": old, "readable_id": "INC101", "title": "old"}],
            "ioc_ip": [{"unique_id": ioc, "value": "203.0.113.10"}],
        }
        incidents = respond.get(f"/v1/ioc/{ioc}/connect-the-dots/").json()["incident"]
        assert {row["unique_id"] for row in incidents} == {new, old}

    def test_a_link_exists_once_however_often_it_is_posted(self, respond):
        [a, b] = [respond.create()["unique_id"] for _ in range(2)]
        respond.post(self.FLAT, {"incident": [a, b]})
        respond.post(self.FLAT, {"incident": [b, a]})
        assert len(respond.get(f"/v1/incident/{a}/connect-the-dots/").json()["incident"]) == 1
        [link] = respond.state()["links"]
        assert sorted(link["pair"]) == sorted([["incident", a], ["incident", b]])
        assert link["posted"] == 2

    def test_advanced_call_links_only_the_pair_it_names(self, respond):
        [new, old, other] = [respond.create()["unique_id"] for _ in range(3)]
        body = {"append": [{"link_from": {"incident": new}, "link_to": {"incident": [old]}}]}
        assert respond.post(self.ADVANCED, body).status_code == 200
        [row] = respond.get(f"/v1/incident/{old}/connect-the-dots/").json()["incident"]
        assert row["unique_id"] == new
        assert respond.get(f"/v1/incident/{other}/connect-the-dots/").json() == {}
        assert len(respond.state()["links"]) == 1

    def test_advanced_from_one_to_many_does_not_link_the_many(self, respond):
        [new, old, older] = [respond.create()["unique_id"] for _ in range(3)]
        respond.post(
            self.ADVANCED, {"append": [{"link_from": {"incident": new}, "link_to": {"incident": [old, older]}}]}
        )
        [row] = respond.get(f"/v1/incident/{old}/connect-the-dots/").json()["incident"]
        assert row["unique_id"] == new

    def test_a_tenant_that_refuses_incidents_as_the_start(self, respond, sim):
        sim.configure("cyware_respond", advanced_link_from_incident=False)
        [new, old] = [respond.create()["unique_id"] for _ in range(2)]
        body = {"append": [{"link_from": {"incident": new}, "link_to": {"incident": [old]}}]}
        assert respond.post(self.ADVANCED, body).status_code == 400
        assert respond.post(self.FLAT, {"incident": [new, old]}).status_code == 200

    def test_flat_refusals_link_nothing(self, respond):
        new = respond.create()["unique_id"]
        [ioc] = respond.iocs(ioc_ip=["203.0.113.10"]).values()
        for body in (
            {},
            {"incident": [new]},
            {"incident": [new, NOWHERE]},
            {"incident": [new, "INC100"]},
            {"incident": new, "ioc_ip": [ioc]},
            {"incident": [new], "ioc_domain": [ioc]},
            {"incident": [new], "ioc_sha256": [ioc]},
            {"incident": [new], "malware": [NOWHERE]},
        ):
            assert respond.post(self.FLAT, body).status_code == 400, body
        assert respond.state()["links"] == []

    def test_advanced_refusals_link_nothing(self, respond):
        new, old = respond.create()["unique_id"], respond.create()["unique_id"]
        [ioc] = respond.iocs(ioc_ip=["203.0.113.10"]).values()
        good = {"link_from": {"incident": new}, "link_to": {"incident": [old]}}
        for body in (
            {"incident": [new, old]},
            {"append": []},
            {"append": [{"link_from": {"incident": new}}]},
            {"append": [good, {"link_from": {"incident": new}, "link_to": {"ioc_ip": [ioc]}}]},
            {"append": [{"link_from": {"incident": [new]}, "link_to": {"incident": [old]}}]},
            {"append": [{"link_from": {"incident": new}, "link_to": {"incident": [new]}}]},
            {"append": [{"link_from": {"incident": new}, "link_to": {"incident": [NOWHERE]}}]},
            {"append": [good], "remove": []},
        ):
            assert respond.post(self.ADVANCED, body).status_code == 400, body
        assert respond.state()["links"] == []

    def test_reading_what_is_not_there(self, respond):
        [ioc] = respond.iocs(ioc_ip=["203.0.113.10"]).values()
        assert respond.get(f"/v1/incident/{NOWHERE}/connect-the-dots/").status_code == 404
        assert respond.get(f"/v1/threat-intel/{ioc}/connect-the-dots/").status_code == 404
        assert respond.get(f"/v1/incident/{ioc}/connect-the-dots/").status_code == 404

    def test_the_name_of_the_ioc_component_can_differ(self, respond, sim):
        [ioc] = respond.iocs(ioc_ip=["203.0.113.10"]).values()
        sim.configure("cyware_respond", ioc_component="threat-intel")
        assert respond.get(f"/v1/threat-intel/{ioc}/connect-the-dots/").status_code == 200
        assert respond.get(f"/v1/ioc/{ioc}/connect-the-dots/").status_code == 404

    def test_a_seeded_incident_is_found_by_its_ioc(self, respond, sim):
        seed = {"title": "older", "_iocs": {"ioc_ip": ["203.0.113.10"]}, "_comments": ["<p>seen before</p>"]}
        sim.seed("cyware_respond", {"incidents": [seed]})
        [ioc] = respond.iocs(ioc_ip=["203.0.113.10"]).values()
        [row] = respond.get(f"/v1/ioc/{ioc}/connect-the-dots/").json()["incident"]
        assert row["title"] == "older"
        assert respond.get(f"/v1/comments/incident/{row['unique_id']}/").json()["count"] == 1


class TestActionsAndSettings:
    def test_the_documented_action(self, respond):
        body = {
            "title": "Block IPs on Firewall",
            "description": "...",
            "case_description": "IP to be blocked",
            "exception_details": "Internal IP and subnet to be excluded",
            "assigned_group": "CFTR Admin",
            "assigned_to": "analyst@soc.example",
            "status": "open",
            "priority": "High",
            "type": "Mitigation",
            "labels": ["block-pending"],
        }
        made = respond.post("/v1/action/", body, **NAMES)
        assert made.status_code == 201
        path = f"/v1/action/{made.json()['unique_id']}/"
        assert respond.get(path).json() == made.json()
        assert respond.put(path, {"status": "closed"}).json()["title"] == body["title"]
        assert respond.get("/v1/action/").json()["results"][0]["status"] == "closed"
        assert respond.get(f"/v1/comments{path.removeprefix('/v1')}").json()["count"] == 0

    @pytest.mark.parametrize("change", [{"priority": "Urgent"}, {"incident": NOWHERE}, {"labels": ["nope"]}])
    def test_action_refusals(self, respond, change):
        assert respond.post("/v1/action/", {"title": "x", **change}, **NAMES).status_code == 400
        assert respond.state()["actions"] == []

    def test_a_created_label_can_be_used(self, respond):
        label = {
            "title": "edge-block",
            "color_code": "#2E7D32",
            "component_identifier": "incident",
            "description": "Incident Label",
        }
        assert respond.post("/v1/utils/label/", label).status_code == 201
        assert respond.post("/v1/utils/label/", label).status_code == 400
        assert respond.create(labels=["edge-block"])["labels"] == ["edge-block"]
        assert "edge-block" in respond.state()["labels"]

    def test_sources_and_units_can_be_created_groups_cannot(self, respond):
        assert respond.post("/v1/utils/source/", {"value": "Honeypot", "source_type": "internal"}).status_code == 201
        assert respond.post("/v1/utils/business-unit/", {"title": "Shop", "description": "-"}).status_code == 201
        assert respond.post("/v1/utils/source/", {"title": "Honeypot"}).status_code == 400
        assert respond.post("/v1/rest-auth/permission/group/", {"name": "SOC L3"}).status_code == 405
        made = respond.create(sources="Honeypot", business_units_impacted=["Shop"])
        assert (made["sources"], made["business_units_impacted"]) == ("Honeypot", ["Shop"])

    def test_the_form_of_a_seed_is_the_tenants(self, respond, sim):
        sim.seed("cyware_respond", {"form": {"level": ["P1", "P2"], "labels": ["only"]}})
        assert respond.create(level="P1", labels=["only"])["level"] == "P1"
        answer = respond.post(INCIDENTS, INCIDENT, **NAMES)
        assert set(answer.json()) == {"level", "labels"}


class TestProtocol:
    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    def test_there_is_no_patch_and_no_delete(self, respond, method):
        made = respond.create()
        answer = respond.call(method, f"{INCIDENTS}{made['unique_id']}/", {"title": "x"})
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, PUT")
        assert answer.json() == {"detail": f'Method "{method}" not allowed.'}
        assert respond.state()["incidents"] == [made]

    def test_405_only_for_callers_who_are_known(self, respond):
        assert respond.call("DELETE", INCIDENTS, AccessID="nobody").status_code == 401

    @pytest.mark.parametrize(("method", "path"), [("POST", "/v1/incident"), ("PUT", f"/v1/incident/{NOWHERE}")])
    def test_a_write_without_the_slash_fails_loudly(self, respond, method, path):
        answer = respond.call(method, path, INCIDENT)
        assert answer.status_code == 500
        assert "doesn't end in a slash" in answer.json()["detail"]
        assert respond.state()["incidents"] == []

    def test_a_read_without_the_slash_is_redirected(self, respond):
        answer = respond.get("/v1/incident", page_size=3)
        assert answer.status_code == 301
        assert urlsplit(answer.headers["Location"]).path == OPENAPI + INCIDENTS
        assert requests.get(answer.headers["Location"], timeout=10).status_code == 200

    @pytest.mark.parametrize("path", ["/v2/incident/", "/v1/test-connectivity/", "/v1/incidents", "/"])
    def test_unknown_paths(self, respond, path):
        assert respond.get(path).status_code == 404
        assert respond.post(path, {}).json() == {"detail": "Not found."}

    def test_the_orchestrate_error_envelope(self, respond, sim):
        sim.configure("cyware_respond", error_style="orchestrate")
        assert respond.get(f"{INCIDENTS}{NOWHERE}/").json() == {
            "result": {"non_field_error": "Not found."},
            "status_code": "404",
        }
        answer = respond.post(INCIDENTS, {**INCIDENT, "level": "x"}, **NAMES).json()
        assert answer == {"result": {"level": ['"x" is not a valid choice.']}, "status_code": "400"}

    def test_an_unknown_form_key_is_a_wrong_configuration(self, sim):
        url = f"{sim.url}/_sim/cyware_respond/configure"
        assert requests.post(url, json={"form": {"severity": ["x"]}}, timeout=10).status_code == 400


class TestRateLimit:
    def test_six_thousand_per_fifteen_minutes(self, sim):
        knobs = sim.world.simulators["cyware_respond"].knobs
        assert (knobs["rate_limit"], knobs["rate_window_seconds"]) == (6000, 900)

    def test_over_the_limit_until_the_window_has_passed(self, respond, sim):
        sim.configure("cyware_respond", rate_limit=3)
        respond.clock(now="2026-01-01T00:00:00Z")
        assert [respond.get(INCIDENTS).status_code for _ in range(4)] == [200, 200, 200, 429]
        respond.clock(advance_seconds=600)
        refused = respond.post(INCIDENTS, INCIDENT, **NAMES)
        assert refused.status_code == 429
        assert 295 <= int(refused.headers["Retry-After"]) <= 300
        assert "throttled" in refused.json()["detail"]
        assert respond.state()["incidents"] == []
        respond.clock(advance_seconds=301)
        assert respond.post(INCIDENTS, INCIDENT, **NAMES).status_code == 201

    def test_without_retry_after(self, respond, sim):
        sim.configure("cyware_respond", rate_limit=0, retry_after_header=False)
        answer = respond.get(INCIDENTS)
        assert answer.status_code == 429
        assert "Retry-After" not in answer.headers


class TestFaults:
    def test_a_reset_after_the_commit_leaves_exactly_one_incident(self, respond, sim):
        sim.fault("cyware_respond", "reset_after_commit", method="POST", path="/v1/incident/$")
        with pytest.raises(requests.ConnectionError):
            respond.post(INCIDENTS, INCIDENT, **NAMES)
        [held] = respond.state()["incidents"]
        [row] = respond.get(INCIDENTS).json()["results"]
        assert (row["unique_id"], row["title"]) == (held["unique_id"], INCIDENT["title"])

    def test_a_reset_before_leaves_none(self, respond, sim):
        sim.fault("cyware_respond", "reset", method="POST")
        with pytest.raises(requests.ConnectionError):
            respond.post(INCIDENTS, INCIDENT, **NAMES)
        assert respond.state()["incidents"] == []

    def test_half_an_answer_is_not_json(self, respond, sim):
        sim.fault("cyware_respond", "truncate", path="/v1/incident/$")
        answer = respond.post(INCIDENTS, INCIDENT, **NAMES)
        assert answer.status_code == 201
        with pytest.raises(requests.JSONDecodeError):
            answer.json()
        assert len(respond.state()["incidents"]) == 1

    def test_a_proxy_page(self, respond, sim):
        sim.fault("cyware_respond", "html", status=502)
        answer = respond.get(INCIDENTS)
        assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (502, "text/html")
        assert respond.get(INCIDENTS).status_code == 200

    def test_429_with_retry_after_on_demand(self, respond, sim):
        sim.fault("cyware_respond", "status", status=429, headers={"Retry-After": "17"}, detail="Slow down.")
        answer = respond.get(INCIDENTS)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "17")
        assert answer.json() == {"detail": "Slow down."}


def test_reset_forgets_everything(respond, sim):
    sim.configure("cyware_respond", form={"level": ["P1"]}, access_id="other")
    sim.seed("cyware_respond", {"incidents": [{"title": "old", "_iocs": {"ioc_ip": ["203.0.113.10"]}}]})
    assert requests.post(f"{sim.url}/_sim/reset", timeout=10).status_code == 200
    state = respond.state()
    assert not any(state[key] for key in ("incidents", "comments", "iocs", "ioc_comments", "links", "actions"))
    assert respond.create()["readable_id"] == "INC100"
