"""Splunk's requests, answers and documents, on a sample file."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.soar.vendor.errors import Unavailable, Unexpected
from include.soar.vendor.wire import Response
from tests.stages.controls import indicator
from threat_response.vendors.splunk import api

SAMPLE = (Path(__file__).parent / "samples" / "query.json").read_bytes()
KEY = "ipv4-addr:198.51.100.7"
SEEN = datetime(2026, 11, 2, 8, tzinfo=UTC)


def old() -> dict[str, Any]:
    return api.parse_query(Response(200, {}, SAMPLE))[KEY]


def new(
    *, seen: datetime = SEEN, days: float = 7, incidents: tuple[str, ...] = ("INC-1",), **more: Any
) -> dict[str, Any]:
    fields = {"first_seen_at": seen, "last_seen_at": seen, "expires_at": seen + timedelta(days=days), **more}
    return api.document_for(indicator("ipv4-addr", "198.51.100.7", **fields), incidents)


def test_a_document_is_what_a_search_needs() -> None:
    ends = datetime(2026, 11, 9, 8, 0, 0, 999, tzinfo=UTC)
    document = new(incidents=("INC-2", "INC-1"), expires_at=ends)
    assert document == {
        "_key": KEY,
        "value": "198.51.100.7",
        "type": "ipv4-addr",
        "confidence": 80,
        "reasons": ["listed by two sources"],
        "first_seen_at": "2026-11-02T08:00:00Z",
        "last_seen_at": "2026-11-02T08:00:00Z",
        "expires_at": 1794211200,
        "expires_at_iso": "2026-11-09T08:00:00Z",
        "incidents": ["INC-1", "INC-2"],
        "source": "threat-response",
        "network": "198.51.100.7/32",
    }
    assert not any("." in name for name in document)


def test_a_merge_keeps_all_incidents_the_longest_time_and_what_a_person_added() -> None:
    later = SEEN + timedelta(days=1)
    merged = api.merge(old(), new(seen=later, incidents=("INC-2",)))
    assert merged["incidents"] == ["INC-1", "INC-2"]
    assert merged["first_seen_at"] == "2026-11-01T08:00:00Z"
    assert merged["last_seen_at"] == "2026-11-03T08:00:00Z"
    assert (merged["expires_at"], merged["expires_at_iso"]) == (1794297600, "2026-11-10T08:00:00Z")
    assert merged["confidence"] == 80
    assert merged["note"] == "added by an analyst"


def test_an_older_sighting_takes_nothing_away() -> None:
    earlier = new(seen=SEEN - timedelta(days=30), incidents=("INC-0",))
    merged = api.merge(old(), earlier)
    changed = {name for name in merged if merged[name] != old().get(name)}
    # A row of an older release has no network yet.
    assert changed == {"first_seen_at", "incidents", "network"}
    assert merged["confidence"] == 90


def test_merging_twice_changes_nothing() -> None:
    once = api.merge(old(), new(incidents=("INC-2",)))
    assert api.merge(once, new(incidents=("INC-2",))) == once


@pytest.mark.parametrize(
    "change",
    [
        {"expires_at": "soon"},
        {"expires_at": float("nan")},
        {"expires_at": None},
        {"incidents": None},
        {"incidents": "INC-1"},
        {"incidents": [1]},
        {"incidents": [["INC-1"]]},
        {"last_seen_at": 5},
        {"first_seen_at": None},
    ],
)
def test_a_document_of_ours_that_somebody_broke_is_not_guessed_at(change: dict[str, Any]) -> None:
    with pytest.raises(Unexpected, match="not as we write it"):
        api.merge(old() | change, new())


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (SAMPLE[:100], Unavailable),
        (b"<html>", Unexpected),
        (b'{"messages": []}', Unexpected),
        (b'["key"]', Unexpected),
        (b'[{"value": "x"}]', Unexpected),
    ],
)
def test_an_answer_of_another_kind_is_an_error(body: bytes, error: type) -> None:
    with pytest.raises(error):
        api.parse_query(Response(200, {}, body))


def test_queries_are_short_enough_for_a_url_and_name_each_key_once() -> None:
    keys = [f"url:http://bad.example/{n}/{'x' * 400}" for n in range(30)]
    parts = api.query_chunks(keys)
    assert [key for part in parts for key in part] == keys
    assert len(parts) > 1
    request = api.Place("nobody", "search", "threat_watchlist").query_request(parts[0])
    assert json.loads(dict(request.params)["query"]) == {"$or": [{"_key": key} for key in parts[0]]}


def test_the_place_is_in_the_path() -> None:
    place = api.Place("nobody", "search", "threat_watchlist")
    base = "/servicesNS/nobody/search/storage/collections"
    assert place.exists_request().path == f"{base}/config/threat_watchlist"
    assert place.save_request([]).path == f"{base}/data/threat_watchlist/batch_save"
    assert [r.writes for r in (place.create_request(), place.save_request([]), place.query_request(["k"]))] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("kind", "value", "network"),
    [
        ("ipv4-addr", "198.51.100.7", "198.51.100.7/32"),
        ("ipv6-addr", "2001:db8::7", "2001:db8::7/128"),
        ("cidr", "198.51.100.0/24", "198.51.100.0/24"),
        ("domain-name", "bad.example", None),
    ],
)
def test_addresses_and_networks_have_a_field_of_their_own_for_cidr_matching(
    kind: str, value: str, network: str | None
) -> None:
    """4: a search by an address did not find the network that holds it."""
    assert api.document_for(indicator(kind, value), []).get("network") == network


def test_the_lookup_lists_every_field_and_matches_networks() -> None:
    form = api.Place("nobody", "search", "watched").create_lookup_request().form
    assert form is not None
    written = api.document_for(indicator("ipv4-addr", "198.51.100.7"), ["INC-1"])
    assert set(form["fields_list"].split(",")) == set(written)
    ours = api.Lookup(collection=form["collection"], fields_list=form["fields_list"], match_type=form["match_type"])
    assert ours.problem("watched") == ""
    assert "is about watched" in ours.problem("another")
    assert "lacks expires_at" in ours.model_copy(
        update={"fields_list": form["fields_list"].replace("expires_at,", "")}
    ).problem("watched")
    assert "networks are not matched" in ours.model_copy(update={"match_type": None}).problem("watched")
