"""
SIA as strangers have met it: the shapes of a quiet hour, poisoned rows, and the vendor's own puller (faults/fidelity.md
E and J7, faults/attack.md 1g to 1j, faults/reading.md R18).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests
from akamai.edgegrid import EdgeGridAuth

from include.soar.model import Role
from include.soar.vendor.errors import Unexpected
from include.soar.vendor.wire import Response
from tests.stages.tiny import Answer, TinyServer
from tests.support import SimServer
from tests.vendors.akamai_sia.test_operators import KNOBS, PRODUCT, START, event, home, run, seed
from tests.vendors.support import connect
from threat_response.vendors.akamai_sia import api

__all__ = ["home"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyServer]:
    """A service that answers as a test says, connected in the simulator's place."""
    tiny = TinyServer()
    connect(
        monkeypatch,
        "akamai_sia_default",
        PRODUCT,
        tiny.url,
        login="a-client-token",
        password="a-client-secret",
        access_token="an-access-token",
        config_id="41041",
        page_size=2,
    )
    yield tiny
    tiny.stop()


def rows(*events: dict[str, Any]) -> bytes:
    info = {"totalRecords": len(events), "pageNumber": 1, "pageSize": 2}
    return json.dumps({"pageInfo": info, "dataRows": list(events)}).encode()


# --- a quiet hour (J7) ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiet", ["full", "no_rows", "no_page_info", "null", "nothing"])
def test_j7_a_quiet_hour_is_an_empty_page_whatever_it_looks_like(
    sim: SimServer, quiet: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sim.configure(PRODUCT, quiet=quiet)
    seed(sim)
    batch = run()
    assert (batch.findings, batch.rejected, batch.pages) == ((), (), 1)
    assert ("came without its total or its rows" in capsys.readouterr().out) is (quiet != "full")


@pytest.mark.parametrize(
    ("body", "page"),
    [({"pageInfo": {"totalRecords": 3}}, 1), ({"pageInfo": {"totalRecords": 3}, "dataRows": None}, 2)],
)
def test_j7_rows_that_are_promised_and_missing_are_a_short_read(body: dict[str, Any], page: int) -> None:
    with pytest.raises(Unexpected, match="short read"):
        api.parse_details(Response(200, {}, json.dumps(body).encode()), page=page, page_size=2)


def test_j7_rows_without_a_total_are_read_to_the_first_page_that_is_not_full(server: TinyServer) -> None:
    pages = [[event(1, 1), event(2, 2)], [event(3, 3), event(4, 4)], []]
    server.script = [Answer(200, json.dumps({"dataRows": page}).encode()) for page in pages]
    assert len(run().findings) == 4
    assert len(server.seen) == 3


def test_j7_a_service_that_repeats_a_page_without_a_total_is_left(server: TinyServer) -> None:
    server.always = Answer(200, json.dumps({"dataRows": [event(1, 1), event(2, 2)]}).encode())
    with pytest.raises(Unexpected, match="repeats"):
        run()
    assert len(server.seen) == 2


# --- rows --------------------------------------------------------------------------------------------------


def test_r18_a_row_far_outside_of_the_window_is_counted(server: TinyServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.always = Answer(200, rows(event(1, 30), event(2, 11 * 60 + 44)))
    assert [f.vendor_id for f in run().findings] == ["q-0001"]
    assert "1 rows were detected far outside of the window asked for" in capsys.readouterr().out


def test_r18_a_row_that_asking_a_second_wider_explains_is_not(
    server: TinyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    early = run_start = -3 * 60  # the overlap begins three hours before the window
    server.always = Answer(200, rows(event(1, early - 1 / 60), event(2, run_start)))
    run()
    assert "far outside" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("poison", "field"),
    [
        (b"[" * 5_000 + b"]" * 5_000, "(whole)"),
        (b'"agent \xff"', None),
        (b"9" * 5_000, None),
    ],
    ids=["nested", "bytes", "digits"],
)
def test_1g_a_poisoned_row_costs_itself_at_most(server: TinyServer, poison: bytes, field: str | None) -> None:
    body = rows(event(1, 1, httpUserAgent="POISON"), event(2, 2)).replace(b'"POISON"', poison)
    server.always = Answer(200, body)
    batch = run()
    assert [f.vendor_id for f in batch.findings] == ["q-0001", "q-0002"]
    assert [told.field for told in batch.rejected] == ([field] if field else [])


@pytest.mark.parametrize("asn", ["9" * 5_000, "AS" + "1" * 4_400, "64496.5", -1, True, [64496]])
def test_1j_an_as_number_that_is_none_costs_nothing(sim: SimServer, asn: Any) -> None:
    row = event(1, 1)
    row["query"]["resolved"] = [{"response": "203.0.113.1", "asn": asn}]
    seed(sim, row, event(2, 2))
    batch = run()
    assert (len(batch.findings), batch.rejected) == (2, ())


@pytest.mark.parametrize(
    ("half", "field", "value"),
    [
        ("query", "domain", {"name": "c2.badware.example"}),
        ("query", "resolved", {"response": "203.0.113.1"}),
        ("query", "resolved", [{"ip": "203.0.113.1"}]),
        ("query", "resolved", ["203.0.113.1"]),
        ("request", "destinationIP", ["203.0.113.1"]),
    ],
)
def test_1h_another_shape_is_told_and_not_read_as_nothing(sim: SimServer, half: str, field: str, value: Any) -> None:
    row = event(1, 1)
    row.setdefault(half, {})[field] = value
    seed(sim, row)
    batch = run()
    [told] = batch.rejected
    # The answers of a name may be told beside the row; without a domain the whole row is.
    assert told.field in (f"{half}.{field}", "(whole)") or half in told.field


def test_1d_answers_beyond_the_thousandth_are_told(sim: SimServer) -> None:
    """A name's addresses are the choice of whoever owns the name: bounded, and the rest is told."""
    row = event(1, 1)
    row["query"]["resolved"] = [{"response": f"198.51.{n // 250}.{n % 250}"} for n in range(1_500)]
    seed(sim, row)
    batch = run()
    assert any(m.role is Role.DESTINATION for m in batch.findings[0].mentions)
    [told] = batch.rejected
    assert told.field == "(cut)"


# --- the vendor's own puller ----------------------------------------------------------------------------------


def test_e_what_the_vendors_puller_sends_is_taken(sim: SimServer) -> None:
    """akamai/cli-etp: body member for member; it reads ``dataRows`` and ``pageInfo.totalRecords`` with defaults."""
    seed(sim, *(event(n, n) for n in range(1, 8)))
    session = requests.Session()
    session.auth = EdgeGridAuth(KNOBS["client_token"], KNOBS["client_secret"], KNOBS["access_token"])
    start, page, read = math.floor(START.timestamp()), 1, []
    while True:
        body = {
            "startTimeSec": start,
            "endTimeSec": start + int(timedelta(hours=1).total_seconds()),
            "orderBy": "ASC",
            "pageNumber": page,
            "pageSize": 5,
            "filters": {},
        }
        url = f"{sim.url}/etp-report/v3/configs/41041/threat-events/details"
        answer = session.post(url, json=body, headers={"User-Agent": "cli-etp"}, timeout=5)
        assert answer.status_code == 200
        read += answer.json().get("dataRows", [])
        total = answer.json().get("pageInfo", {}).get("totalRecords", 0)
        if page * 5 >= total:
            break
        page += 1
    assert [row["query"]["uuid"] for row in read] == [f"q-{n:04d}" for n in range(1, 8)]
