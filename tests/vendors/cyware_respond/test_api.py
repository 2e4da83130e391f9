"""The pure part, on sample answers. The vendor documents none: the samples show the shapes that are accepted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from include.soar.model import Observable, ObservableType, Severity
from include.soar.vendor.errors import Unauthorized, Unavailable, Unexpected
from include.soar.vendor.wire import Response
from tests.stages.incidents.incident_examples import observable
from threat_response.transport.form import read_fields
from threat_response.vendors.cyware_respond import api
from threat_response.vendors.cyware_respond.tenant import Tenant, tenant_of
from threat_response.vendors.cyware_respond.vendor import VENDOR

SAMPLES = Path(__file__).parent / "samples"
CONTRACT = Tenant()


def tenant_with(extra: dict[str, Any]) -> Tenant:
    """As a connection with this extra says it."""
    return tenant_of(vars(read_fields(VENDOR, extra)))


def answer(body: bytes | str, status: int = 200) -> Response:
    return Response(status, {}, body.encode() if isinstance(body, str) else body)


def sample(name: str) -> Response:
    return answer((SAMPLES / name).read_bytes())


@pytest.mark.parametrize(
    ("access_id", "secret", "expires", "expected", "encoded"),
    [
        (
            "test-access-id",
            "test-secret-key",
            1700000020,
            "4k4wpZcARBUiIC88M8naxR3T1Ug=",
            "4k4wpZcARBUiIC88M8naxR3T1Ug%3D",
        ),
        (
            "test-access-id",
            "test-secret-key",
            1700000014,
            "A1N6JsqBmzr+OPv2JyGmDm/b6yA=",
            "A1N6JsqBmzr%2BOPv2JyGmDm%2Fb6yA%3D",
        ),
        ("sim-access", "sim-secret", 1767225600, "SqaTi53YZVInIxb9mICLW2iknHI=", "SqaTi53YZVInIxb9mICLW2iknHI%3D"),
    ],
)
def test_the_signature_is_the_documented_one(
    access_id: str, secret: str, expires: int, expected: str, encoded: str
) -> None:
    signed = api.signature(access_id, secret, expires)
    assert signed == {"AccessID": access_id, "Expires": str(expires), "Signature": expected}
    assert urlencode(signed).endswith(f"Signature={encoded}")


@pytest.mark.parametrize(
    ("name", "rows", "count", "more"), [("list_top.json", 2, 2, False), ("list_link.json", 1, 101, True)]
)
def test_both_envelopes_are_read(name: str, rows: int, count: int, more: bool) -> None:
    page = api.parse_page("list_incidents", sample(name))
    assert (len(page.rows), page.count, page.more) == (rows, count, more)


def test_a_bare_array_is_a_page_that_says_nothing_about_others() -> None:
    assert api.parse_page("list", answer("[1, 2]")) == api.Page([1, 2], None, None)


@pytest.mark.parametrize("body", ['{"incidents": []}', '{"results": {}}', '"text"', "<html></html>"])
def test_another_envelope_is_not_an_empty_list(body: str) -> None:
    with pytest.raises(Unexpected):
        api.parse_page("list_incidents", answer(body))


def test_a_cut_page_may_be_asked_for_again() -> None:
    with pytest.raises(Unavailable):
        api.parse_page("list_incidents", answer('{"count": 2, "results": [{"uni'))


def test_rows_are_ordered_by_time_whatever_its_spelling() -> None:
    rows = [api.parse_row("list", row) for row in api.parse_page("list", sample("list_top.json")).rows]
    assert rows[1].created == datetime(2026, 1, 18, 7, 39, 2, tzinfo=UTC)
    assert sorted(rows, key=lambda row: row.order)[0] is rows[1]


@pytest.mark.parametrize("missing", ["unique_id", "title", "status", "created"])
def test_a_row_without_what_it_means_is_refused(missing: str) -> None:
    row: dict[str, Any] = api.parse_page("list", sample("list_top.json")).rows[0]
    with pytest.raises(Unexpected, match=missing):
        api.parse_row("list_incidents", {k: v for k, v in row.items() if k != missing})


def test_labels_are_read_as_titles_or_as_records() -> None:
    assert api.parse_incident(sample("incident.json")).labels == ["auto-onboarded", "blocked"]


def test_a_created_incident_needs_only_its_id() -> None:
    assert api.parse_created(answer('{"unique_id": "x"}', 202)).unique_id == "x"
    with pytest.raises(Unexpected, match="unique_id"):
        api.parse_created(answer('{"readable_id": "INC1"}'))


@pytest.mark.parametrize(("given", "read"), [(101, "101"), ("INC1", "INC1"), (None, None), ({"a": 1}, None)])
def test_the_id_for_people_is_read_whatever_it_is(given: Any, read: str | None) -> None:
    row: dict[str, Any] = api.parse_page("list", sample("list_top.json")).rows[0]
    assert api.parse_row("list_incidents", row | {"readable_id": given}).readable_id == read
    assert api.parse_created(answer(json.dumps({"unique_id": "x", "readable_id": given}))).readable_id == read


@pytest.mark.parametrize("created", ["yesterday", True, [], 10**30])
def test_a_comment_whose_time_cannot_be_read_is_a_comment(created: Any) -> None:
    found = api.parse_comment({"unique_id": 5, "created": created, "description": "ref TR-S-0123456789abcdef"})
    assert found.created is None
    assert "TR-S-0123456789abcdef" in found.text


def test_a_write_may_answer_with_nothing_but_not_with_a_page() -> None:
    assert api.parse_written("update_incident", answer(b"", 204)) is None
    with pytest.raises(Unexpected):
        api.parse_written("update_incident", answer("<html>Just a moment</html>"))


def test_connections_are_found_under_their_kind() -> None:
    found = api.parse_connected(sample("connected.json"), CONTRACT)
    assert [(c.component, c.value) for c in found] == [
        ("incident", None),
        ("ioc_ip", "203.0.113.10"),
        ("ioc_url", "https://evil.badware.example/A"),
    ]


@pytest.mark.parametrize(
    "document",
    [
        {"ioc_ip": [{"unique_id": "i1", "value": "2001:DB8:0::1"}], "ioc_url": [{"unique_id": "i2", "value": "u"}]},
        {"results": [{"unique_id": "i1", "ioc_type": "ioc_ip", "value": "2001:db8::1"}]},
        [{"unique_id": "job", "created": {"unique_id": "i1", "value": "2001:db8::1"}}],
    ],
)
def test_ids_are_found_wherever_they_stand(document: Any) -> None:
    wanted = observable("2001:db8::1")
    assert api.parse_iocs(document, [wanted], CONTRACT) == {wanted.key: "i1"}


def test_case_matters_in_a_url_only() -> None:
    url, domain = observable("https://evil.badware.example/A"), observable("evil.badware.example")
    pairs = [("https://evil.badware.example/a", "other"), ("EVIL.badware.example", "d")]
    assert api.match_values(pairs, [url, domain]) == {domain.key: "d"}


def test_bulk_create_groups_by_the_vendors_case_sensitive_keys() -> None:
    hashes = [Observable(type=ObservableType.FILE, value=digit * n) for digit, n in (("a", 32), ("b", 40), ("c", 64))]
    mail = Observable(type=ObservableType.EMAIL, value="a@evil.badware.example")
    values = [observable(v) for v in ("203.0.113.10", "2001:db8::1", "evil.badware.example", "https://e.example/x")]
    body = api.bulk_create_request(CONTRACT, [*values, mail, *hashes]).json
    assert body == {
        "ioc_ip": ["203.0.113.10", "2001:db8::1"],
        "ioc_domain": ["evil.badware.example"],
        "ioc_url": ["https://e.example/x"],
        "ioc_email": ["a@evil.badware.example"],
        "ioc_MD5": ["a" * 32],
        "ioc_SHA1": ["b" * 40],
        "ioc_SHA256": ["c" * 64],
    }
    assert api.ioc_key(Observable(type=ObservableType.FILE, value="d" * 128), CONTRACT) is None


def test_every_path_ends_in_a_slash_and_holds_no_foreign_path() -> None:
    requests = [
        api.incident_request(CONTRACT, "../../x?y"),
        api.update_incident_request(CONTRACT, "a/b", {}),
        api.add_comment_request(CONTRACT, "a b", "<p></p>"),
        api.connected_request(CONTRACT, "ioc", "a#b"),
    ]
    for request in requests:
        assert request.path.endswith("/")
        assert not set(request.path) & set("?# ")
    assert "%2F..%2F" in requests[0].path


def test_the_relation_is_one_pair_by_either_call() -> None:
    advanced = api.relate_request(CONTRACT, "new", "old")
    assert advanced.json == {"append": [{"link_from": {"incident": "new"}, "link_to": {"incident": ["old"]}}]}
    flat = api.relate_request(tenant_with({"relate_call": "flat"}), "new", "old")
    assert flat.json == {"incident": ["new", "old"]}
    assert flat.path != advanced.path


def test_a_tenant_may_differ_in_one_place() -> None:
    tenant = tenant_with(
        {
            "levels": '{"critical": "Very High"}',
            "labels": ["soc"],
            "page_size": "50",
            "assigned_group": "Night shift",
            "portal_url": "{host}/x/{readable_id}",
            "phase": "-",
            "incident_type": "",
        }
    )
    assert tenant.levels[Severity.CRITICAL] == "Very High"
    assert tenant.levels[Severity.HIGH] == "High"
    assert tenant.labels_of("akamai_sia") == ["soc", "akamai-sia"]
    assert tenant.page_size == 50
    assert (tenant.phase, tenant.incident_type) == ("", "Hacking")
    assert tenant.page_of_incident("https://t.example", "u", "INC1/2") == "https://t.example/x/INC1%2F2"


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"levels": "{"}, "levels"),
        ({"levels": {"enormous": "High"}}, "levels"),
        ({"page_size": "0"}, "page_size"),
        ({"relate_call": "both"}, "relate_call"),
        ({"portal_url": "{tenant}/x"}, "portal_url"),
    ],
)
def test_a_wrong_override_names_itself(extra: dict[str, Any], named: str) -> None:
    with pytest.raises(Unauthorized, match=named):
        tenant_with(extra)
