"""The hook against medallion, OASIS' own TAXII 2.1 server: a server that none of us wrote."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import medallion
import pytest
import taxii2client.v21 as client
from werkzeug.serving import WSGIRequestHandler, make_server

from include.soar.model import Answer
from include.soar.vendor.errors import Unauthorized
from tests.conftest import ROOT
from tests.soar.examples import NOW, address, domain
from tests.vendors.support import connect
from threat_response.vendors.taxii.hook import TaxiiHook
from threat_response.vendors.taxii.index import Index

USER, PASSWORD = "reader", "medallion-password"
BOX, EMPTY, CLOSED = (f"{n}1a7b528-80eb-42ed-a74d-c6fbd5a26116" for n in (1, 2, 3))
HOUR = timedelta(hours=1)


def stix(number: int, kind: str = "indicator", **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "spec_version": "2.1",
        "id": f"{kind}--00000000-0000-4000-8000-{number:012d}",
        "created": "2026-11-19T00:00:00.000Z",
        "modified": "2026-11-19T00:00:00.000Z",
        **more,
    }


def indicator(number: int, pattern: str, **more: Any) -> dict[str, Any]:
    return stix(number, pattern=pattern, pattern_type="stix", valid_from="2026-11-19T00:00:00Z", **more)


OBJECTS = [
    indicator(1, "[ipv4-addr:value = '203.0.113.7']", name="one"),
    indicator(2, "[domain-name:value = 'evil.example' OR ipv4-addr:value ISSUBSET '198.51.100.0/24']"),
    indicator(3, "[process:name = 'x']"),
    stix(4, "malware", name="GuLoader", is_family=True),
    stix(
        5,
        "relationship",
        relationship_type="indicates",
        source_ref="indicator--00000000-0000-4000-8000-000000000001",
        target_ref="malware--00000000-0000-4000-8000-000000000004",
    ),
    stix(6, "identity", name="Example team"),
]


def collection(id_: str, objects: list[dict[str, Any]], **rights: bool) -> dict[str, Any]:
    manifest = [
        {
            "id": one["id"],
            "date_added": f"2026-11-20T00:00:00.{number:06d}Z",
            "version": one["modified"],
            "media_type": "application/stix+json;version=2.1",
        }
        for number, one in enumerate(objects)
    ]
    return {
        "id": id_,
        "title": f"Collection {id_[0]}",
        "can_read": True,
        "can_write": True,
        "media_types": ["application/stix+json;version=2.1"],
        "objects": objects,
        "manifest": manifest,
        **rights,
    }


def served() -> dict[str, Any]:
    # As in medallion's own sample, the address is not that at which it is served: only its path can be used.
    return {
        "/discovery": {
            "title": "Medallion",
            "default": "http://localhost:5000/intel/",
            "api_roots": ["http://localhost:5000/intel/"],
        },
        "intel": {
            "information": {
                "title": "Shared",
                "versions": ["application/taxii+json;version=2.1"],
                "max_content_length": 9765625,
            },
            "status": [],
            "collections": [
                collection(BOX, [dict(one) for one in OBJECTS]),
                collection(EMPTY, []),
                collection(CLOSED, [], can_read=False),
            ],
        },
    }


class Server:
    """Medallion in this process, and the requests that it got."""

    def __init__(self, folder: Path) -> None:
        requests: list[str] = []

        class Quiet(WSGIRequestHandler):
            def log_request(self, *_: Any) -> None:
                requests.append(self.path)

        config = folder / "medallion.json"
        backend = {"module": "medallion.backends.memory_backend", "module_class": "MemoryBackend"}
        settings = {"backend": backend, "users": {USER: PASSWORD}, "taxii": {"max_page_size": 2}}
        config.write_text(json.dumps(settings), encoding="utf-8")
        self.app = medallion.load_app(str(config))
        self.requests = requests
        self.wsgi = make_server("127.0.0.1", 0, self.app, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self.wsgi.server_port}"
        self.thread = threading.Thread(target=self.wsgi.serve_forever, daemon=True)
        self.thread.start()

    def serve(self, document: Any) -> None:
        self.requests.clear()
        self.app.medallion_backend.next.clear()
        self.app.medallion_backend.load_data_from_file(io.StringIO(json.dumps(document)))

    def stop(self) -> None:
        self.wsgi.shutdown()
        self.thread.join(timeout=10)
        self.wsgi.server_close()


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("medallion"))
    yield server
    server.stop()


@pytest.fixture
def server(_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    connect(monkeypatch, "taxii_default", "taxii", _server.url, login=USER, password=PASSWORD)
    _server.serve(served())
    return _server


def refresh(after: timedelta = timedelta(0)) -> list[dict[str, Any]]:
    return TaxiiHook().refresh(now=NOW + after, not_before=HOUR, full_after=timedelta(days=7))


def answer(lists: list[dict[str, Any]], value: str) -> Answer:
    index = Index(TaxiiHook().load(reference) for reference in lists)
    observable = domain(value) if value[-1].isalpha() else address(value)
    return index.reputation(observable, body_digest="", doubts=(), known_at=NOW).answer


def test_all_pages_of_all_collections_that_may_be_read(server: Server) -> None:
    box, empty = refresh()
    assert (box["indicators"], box["readable"], box["unreadable"]) == (3, 2, {"process:name": 1})
    assert (empty["indicators"], empty["added_after"]) == (0, None)
    # Two objects a page: five that are asked for, and the identity is none of them.
    assert len([path for path in server.requests if "/objects/" in path and BOX in path]) == 3
    for listed in ("203.0.113.7", "evil.example", "198.51.100.200"):
        assert answer([box, empty], listed) is Answer.LISTED
    assert answer([box, empty], "203.0.113.8") is Answer.NOT_LISTED
    index = Index([TaxiiHook().load(box)])
    found = index.reputation(address("203.0.113.7"), body_digest="", doubts=(), known_at=NOW)
    assert found.tags == ("GuLoader",)


def test_afterwards_only_what_was_added_is_read(server: Server) -> None:
    first = refresh()
    box = client.Collection(f"{server.url}/intel/collections/{BOX}/", user=USER, password=PASSWORD)
    box.add_objects(
        {
            "objects": [
                indicator(7, "[ipv4-addr:value = '203.0.113.8']"),
                {**OBJECTS[0], "modified": "2026-11-23T00:00:00.000Z", "revoked": True},
            ]
        }
    )
    server.requests.clear()
    second = refresh(HOUR)
    queries = [path for path in server.requests if "/objects/" in path and BOX in path]
    assert len(queries) == 1
    assert "added_after=2026-11-20T00%3A00%3A00.000004Z" in queries[0]
    assert [answer(second, value) for value in ("203.0.113.8", "203.0.113.7")] == [Answer.LISTED, Answer.NOT_LISTED]
    assert [answer(first, value) for value in ("203.0.113.8", "203.0.113.7")] == [Answer.NOT_LISTED, Answer.LISTED]


def test_a_wrong_password(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "taxii_default", "taxii", server.url, login=USER, password="another")
    with pytest.raises(Unauthorized):
        refresh()
    assert TaxiiHook().test_connection()[1].startswith("Wrong key")


def test_a_closed_collection_that_the_connection_names(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "taxii_default", "taxii", server.url, login=USER, password=PASSWORD, collections=CLOSED)
    with pytest.raises(Unauthorized, match="no readable collection"):
        refresh()


def test_the_connection_test(server: Server) -> None:
    passed, message = TaxiiHook().test_connection()
    assert (passed, message) == (True, "taxii: 2 collections can be read at /intel/: Collection 1; Collection 2")


def test_medallion_s_own_sample(server: Server) -> None:
    file = ROOT.parent / "shared/data/taxii/medallion_default_data.json"
    if not file.is_file():
        pytest.skip("needs ../shared/data/taxii, not present")
    server.serve(json.loads(file.read_bytes()))
    references = {reference["title"]: reference for reference in refresh()}
    assert set(references) == {
        "This data collection is for testing adding objects",
        "High Value Indicator Collection",
        "Indicators from the past 24-hours",
    }
    valuable = references["High Value Indicator Collection"]
    assert (valuable["indicators"], valuable["readable"], valuable["unreadable"]) == (2, 2, {})
    assert valuable["added_after"] == "2017-12-31T13:49:53.935000Z"
