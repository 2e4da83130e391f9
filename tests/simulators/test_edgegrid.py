"""The simulators' side of EdgeGrid, judged by Akamai's own signer and its published vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from akamai.edgegrid import EdgeGridAuth

from include.simulators.edgegrid import EDGEGRID_SETTINGS, data_to_sign, parse_authorization, sign
from tests.support import SimServer, start_simulators

VECTORS = Path(__file__).resolve().parents[2] / ".." / "shared" / "specs" / "akamai" / "edgegrid"
LISTS = "/client-list/v1/lists"
VALIDATION = "/client-list/v1/lists/items/import/validation"


@pytest.fixture(scope="module")
def _server() -> Iterator[SimServer]:
    server = start_simulators(["akamai_sia", "akamai_client_lists"])
    yield server
    server.stop()


@pytest.fixture
def edge(_server: SimServer) -> SimServer:
    _server.world.reset()
    lists = [{"listId": "91596_BLOCK", "name": "Block", "type": "IP", "items": ["203.0.113.7"]}]
    _server.seed("akamai_client_lists", {"lists": lists})
    return _server


def signer(**changes: str) -> EdgeGridAuth:
    names = ("client_token", "client_secret", "access_token")
    return EdgeGridAuth(**{name: changes.get(name, EDGEGRID_SETTINGS[name]) for name in names})


def prepared(edge: SimServer, method: str, path: str, **kwargs: Any) -> requests.PreparedRequest:
    return requests.Request(method, edge.url + path, auth=kwargs.pop("auth", signer()), **kwargs).prepare()


def send(request: requests.PreparedRequest) -> requests.Response:
    with requests.Session() as session:
        return session.send(request, timeout=10)


def cases() -> list[dict[str, Any]]:
    return json.loads((VECTORS / "testcases.json").read_text()) if VECTORS.is_dir() else []


@pytest.mark.parametrize("case", cases() or [None], ids=lambda case: case and case["testName"])
def test_published_vectors(case: dict[str, Any] | None) -> None:
    if case is None:
        pytest.skip("needs ../shared/specs/akamai/edgegrid, not present")
    common = json.loads((VECTORS / "testdata.json").read_text())
    claim = parse_authorization(case["expectedAuthorization"])
    assert claim is not None
    assert claim.unsigned + f"signature={claim.signature}" == case["expectedAuthorization"]
    headers = {name.lower(): value for h in case["request"].get("headers", []) for name, value in h.items()}
    text = data_to_sign(
        method=case["request"]["method"],
        scheme="https",
        host=headers.get("host", urlsplit(common["base_url"]).netloc),
        path_and_query=case["request"]["path"],
        unsigned=claim.unsigned,
        body=(case["request"].get("data") or "").encode(),
        headers=headers,
        headers_to_sign=common["headers_to_sign"],
        max_body=common["max_body"],
    )
    if "expectedDataToSign" in case:
        assert text == case["expectedDataToSign"] + claim.unsigned
    assert sign(common["client_secret"], claim.timestamp, text) == claim.signature


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", LISTS, None, 200),
        ("GET", LISTS + "?type=IP&search=a%2Fb+c%20d&type=GEO", None, 200),
        ("GET", LISTS + "/91596%5FBLOCK", None, 200),
        ("GET", LISTS + "/91596_BLOCK;x=1;y", None, 404),
        ("POST", LISTS + "/91596_BLOCK/items", {"append": [{"value": "198.51.100.9"}]}, 200),
        ("PUT", LISTS + "/91596_BLOCK", {"name": "Block \N{SNOWMAN}"}, 200),
        ("DELETE", LISTS + "/91596_BLOCK", None, 204),
    ],
)
def test_akamais_signer_is_accepted(edge: SimServer, method: str, path: str, body: Any, expected: int) -> None:
    answer = send(prepared(edge, method, path, json=body))
    assert answer.status_code == expected, answer.text


def test_only_the_first_max_body_bytes_of_a_post_are_signed(edge: SimServer) -> None:
    addresses = [f"10.{i >> 8}.{i & 255}.1" for i in range(9_999)]
    request = prepared(edge, "POST", VALIDATION, json={"listType": "IP", "items": [*addresses, "192.0.2.1"]})
    assert isinstance(request.body, bytes)
    assert len(request.body) > EDGEGRID_SETTINGS["max_body"]
    request.body = request.body.replace(b"192.0.2.1", b"192.0.2.2")
    assert send(request).json()["valid"] is True

    request = prepared(edge, "POST", VALIDATION, json={"listType": "IP", "items": addresses})
    assert isinstance(request.body, bytes)
    request.body = request.body.replace(b"10.0.0.1", b"10.0.0.2")
    assert send(request).status_code == 401


def test_the_body_of_a_put_is_not_signed(edge: SimServer) -> None:
    request = prepared(edge, "PUT", LISTS + "/91596_BLOCK", json={"name": "one"})
    request.body = b'{"name": "two"}'
    request.headers["Content-Length"] = str(len(request.body))
    assert send(request).json()["name"] == "two"


def denied(answer: requests.Response, status: int, kind: str, detail: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["detail"]) == (status, status, detail)
    assert problem["type"] == f"https://problems.luna.akamaiapis.net/-/{kind}"
    assert problem["instance"] == answer.request.url
    assert problem["method"] == answer.request.method
    assert {"title", "serverIp", "clientIp", "requestId", "requestTime"} < problem.keys()


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        ("client_secret", "The signature does not match"),
        ("client_token", "Invalid client token"),
        ("access_token", "Invalid access token"),
    ],
)
def test_wrong_credentials(edge: SimServer, changed: str, detail: str) -> None:
    answer = send(prepared(edge, "GET", LISTS, auth=signer(**{changed: "wrong"})))
    denied(answer, 401, "pep-authn/deny", detail)


def test_credentials_are_knobs(edge: SimServer) -> None:
    edge.configure("akamai_client_lists", client_secret="another")
    assert send(prepared(edge, "GET", LISTS)).status_code == 401
    assert send(prepared(edge, "GET", LISTS, auth=signer(client_secret="another"))).status_code == 200


@pytest.mark.parametrize(
    "header", [None, "Bearer abc", "EG1-HMAC-SHA256 client_token=a;access_token=b;timestamp=c;nonce=d;signature="]
)
def test_no_usable_header(edge: SimServer, header: str | None) -> None:
    answer = requests.get(edge.url + LISTS, headers={"Authorization": header} if header else {}, timeout=10)
    denied(answer, 401, "pep-authn/deny", "Invalid authorization header")


@pytest.mark.parametrize(("skew", "status"), [(20, 200), (-20, 200), (40, 400), (-40, 400), (81, 400)])
def test_clock_skew_is_a_400(edge: SimServer, skew: int, status: int) -> None:
    requests.post(edge.url + "/_sim/clock", json={"advance_seconds": skew}, timeout=10)
    answer = send(prepared(edge, "GET", LISTS))
    if status == 200:
        assert answer.status_code == 200
    else:
        denied(answer, 400, "pep-authn/request-error", "Invalid timestamp")


def test_the_window_is_a_knob(edge: SimServer) -> None:
    requests.post(edge.url + "/_sim/clock", json={"now": "2026-01-01T00:00:00Z"}, timeout=10)
    assert send(prepared(edge, "GET", LISTS)).status_code == 400
    edge.configure("akamai_client_lists", timestamp_window_seconds=None)
    assert send(prepared(edge, "GET", LISTS)).status_code == 200


def test_a_replayed_nonce_is_refused(edge: SimServer) -> None:
    request = prepared(edge, "POST", LISTS + "/91596_BLOCK/items", json={"append": [{"value": "198.51.100.9"}]})
    assert send(request).status_code == 200
    denied(send(request), 401, "pep-authn/deny", "Nonce has been used already")
    assert edge.state("akamai_client_lists")["lists"]["91596_BLOCK"]["version"] == 2


def test_a_refused_request_does_not_use_up_its_nonce(edge: SimServer) -> None:
    request = prepared(edge, "GET", LISTS)
    signed = request.headers["Authorization"]
    request.headers["Authorization"] = signed[:-4] + "AAA="
    assert send(request).status_code == 401
    request.headers["Authorization"] = signed
    assert send(request).status_code == 200


@pytest.mark.parametrize(
    ("old", "new"),
    [("/91596_BLOCK/", "/91597_BLOCK/"), ("/items", "/items?page=1"), ("/91596_BLOCK", "/91596%5FBLOCK")],
)
def test_an_altered_url_is_refused(edge: SimServer, old: str, new: str) -> None:
    request = prepared(edge, "GET", LISTS + "/91596_BLOCK/items")
    assert request.url
    request.url = request.url.replace(old, new)
    denied(send(request), 401, "pep-authn/deny", "The signature does not match")


def test_altered_body_method_and_host_are_refused(edge: SimServer) -> None:
    path, body = LISTS + "/91596_BLOCK/items", {"append": [{"value": "198.51.100.9"}]}
    request = prepared(edge, "POST", path, json=body)
    assert isinstance(request.body, bytes)
    request.body = request.body.replace(b"198.51.100.9", b"198.51.100.8")
    assert send(request).status_code == 401

    request = prepared(edge, "DELETE", LISTS + "/91596_BLOCK")
    request.method = "GET"
    assert send(request).status_code == 401

    request = prepared(edge, "GET", LISTS)
    request.headers["Host"] = "akab-other.luna.akamaiapis.example"
    assert send(request).status_code == 401
    assert edge.state("akamai_client_lists")["lists"]["91596_BLOCK"]["version"] == 1


def test_missing_grant_is_a_403(edge: SimServer) -> None:
    edge.configure("akamai_client_lists", granted=False)
    answer = send(prepared(edge, "GET", LISTS))
    assert answer.status_code == 403
    assert answer.json()["type"].endswith("/pep-authz/deny")


def test_unknown_paths_are_behind_the_signature_too(edge: SimServer) -> None:
    assert requests.get(edge.url + "/etp-report/v3/nothing", timeout=10).status_code == 401
    answer = send(prepared(edge, "GET", "/etp-report/v3/nothing"))
    assert answer.status_code == 404
    assert answer.json()["type"] == "https://problems.omni.akamaiapis.net/http/not-found"
