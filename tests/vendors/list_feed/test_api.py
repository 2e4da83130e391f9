"""Block lists: what a list says, and looking a value up in many of them."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vendors.list_feed import api
from vendors.list_feed.api import ListIndex, Source, parse_list, parse_sources

from include.soar.errors import Unexpected
from include.soar.model import Answer, Observable, ObservableType
from include.soar.observables import parse_url
from tests.soar.examples import NOW, address, domain

SAMPLES = Path(__file__).parent / "samples"
DROP = Source("drop", "drop", "/drop/drop_v4.json", 100)
PLAIN = Source("team", "plain", "file:///lists/team.txt", 60)


def entries(source: Source, name: str) -> list[str]:
    return parse_list(source, (SAMPLES / name).read_bytes())[0]


def test_sources() -> None:
    text = "drop drop /drop/drop_v4.json\n\n  team-2 plain s3://aws@bucket/team.txt 60 | x_3 plain file:///x 1"
    assert parse_sources(text) == [
        Source("drop", "drop", "/drop/drop_v4.json", 100),
        Source("team-2", "plain", "s3://aws@bucket/team.txt", 60),
        Source("x_3", "plain", "file:///x", 1),
    ]
    assert [source.is_http for source in parse_sources(text)] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "none given"),
        (" \n | ", "none given"),
        ("drop drop", "line 1"),
        ("drop drop /x 100 more", "line 1"),
        ("a plain /a\nb csv /b", "line 2: format 'csv'"),
        ("../x plain /a", "name"),
        ("a plain /a 0", "score '0'"),
        ("a plain /a 101", "score '101'"),
        ("a plain /a high", "score 'high'"),
        ("a plain /a 5.5", "score '5.5'"),
        ("a plain drop.json", "neither a path nor a URL"),
        ("a plain https://lists.example/a", "path only"),
    ],
)
def test_a_wrong_line_is_named(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_sources(text)


def test_a_conditional_request() -> None:
    request = api.list_request(DROP, etag='"abc"', last_modified="Tue, 24 Nov 2026 12:00:00 GMT")
    assert (request.method, request.path, request.writes) == ("GET", "/drop/drop_v4.json", False)
    assert request.headers["If-None-Match"] == '"abc"'
    assert request.headers["If-Modified-Since"] == "Tue, 24 Nov 2026 12:00:00 GMT"
    assert set(api.list_request(DROP, etag=None, last_modified=None).headers) == {"Accept"}


def test_a_drop_list() -> None:
    assert entries(DROP, "drop_v4.json") == ["network:198.51.100.0/26", "network:203.0.113.0/25"]


def test_a_plain_list() -> None:
    found, unreadable = parse_list(PLAIN, (SAMPLES / "plain.txt").read_bytes())
    assert unreadable == 1
    assert found == [
        "domain-name:bad.example",
        "domain-name:evil.pl",
        "file:0cc175b9c0f1b6a831c399e269772661",
        "network:192.0.2.64/28",
        "network:2001:db8:bad::/48",
        "network:203.0.113.200/32",
        "url:https://files.example/a.bin",
    ]


@pytest.mark.parametrize("line", ["0.0.0.0/0", "::/0", "128.0.0.0/1", "203.0.0.0/7", "2000::/3"])
def test_a_network_as_wide_as_the_internet_is_a_slip(line: str) -> None:
    """One such line would make everybody malicious, on a top-grade list even without a second voice."""
    found, unreadable = parse_list(PLAIN, f"203.0.113.7\n198.51.100.0/24\n{line}\n".encode())
    assert (len(found), unreadable) == (2, 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n# nothing but comments\n",
        b"<!DOCTYPE html>\n<html><head><title>Just a moment...</title></head>\n<body>Checking</body></html>",
        b'{"type":"metadata","records":0}',
        b"\x1f\x8b\x08\x00\x00",
        b"one\ntwo\nthree\n203.0.113.7",
    ],
    ids=["empty", "comments", "html", "metadata only", "gzip", "mostly not"],
)
@pytest.mark.parametrize("source", [DROP, PLAIN], ids=["drop", "plain"])
def test_what_is_not_such_a_list_is_not_an_empty_list(source: Source, content: bytes) -> None:
    with pytest.raises(Unexpected, match=f"not a {source.format} list"):
        parse_list(source, content)


def test_a_drop_list_that_was_cut_is_told_by_its_own_count_and_by_its_last_line() -> None:
    whole = (SAMPLES / "drop_v4.json").read_text("utf-8")
    first, second, metadata = whole.splitlines()
    with pytest.raises(Unexpected, match="says that it has 2 records, and holds 1"):
        parse_list(DROP, f"{first}\n{metadata}".encode())
    with pytest.raises(Unexpected, match="ends in the middle of a line"):
        parse_list(DROP, f"{first}\n{second[:-9]}".encode())
    assert parse_list(DROP, f"{first}\n{second}".encode()) == parse_list(DROP, whole.encode())


# --- looking up --------------------------------------------------------------------------------------------------


@pytest.fixture
def index() -> ListIndex:
    return ListIndex([(DROP, entries(DROP, "drop_v4.json")), (PLAIN, entries(PLAIN, "plain.txt"))])


def url(text: str) -> Observable:
    found = parse_url(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("observable", "listed"),
    [
        (address("203.0.113.7"), [("drop", "203.0.113.0/25")]),
        (address("203.0.113.127"), [("drop", "203.0.113.0/25")]),
        (address("203.0.113.128"), []),
        (address("203.0.113.200"), [("team", "203.0.113.200/32")]),
        (address("192.0.2.79"), [("team", "192.0.2.64/28")]),
        (address("192.0.2.80"), []),
        (address("2001:db8:bad::5"), [("team", "2001:db8:bad::/48")]),
        (address("2001:db8:ba::5"), []),
        (domain("bad.example"), [("team", "bad.example")]),
        (domain("www.bad.example"), [("team", "bad.example")]),
        (domain("notbad.example"), []),
        (domain("bad.example.net.example"), []),
        (url("https://files.example/a.bin"), [("team", "https://files.example/a.bin")]),
        (url("https://files.example/a.bin?x"), []),
        (
            Observable(type=ObservableType.FILE, value="0cc175b9c0f1b6a831c399e269772661"),
            [("team", "0cc175b9c0f1b6a831c399e269772661")],
        ),
        (Observable(type=ObservableType.EMAIL, value="a@bad.example"), []),
    ],
    ids=lambda value: value.value if isinstance(value, Observable) else "",
)
def test_look_up(index: ListIndex, observable: Observable, listed: list[Any]) -> None:
    assert [(source.name, entry) for source, entry in index.look_up(observable)] == listed
    reputation = index.reputation(observable, known_at=NOW)
    assert reputation.answer is (Answer.LISTED if listed else Answer.NOT_LISTED)
    assert reputation.score == max([{"drop": 100, "team": 60}[name] for name, _ in listed], default=0)


def test_several_lists_speak_with_the_worst_score() -> None:
    both = ListIndex([(DROP, ["network:203.0.113.0/24"]), (PLAIN, ["network:203.0.113.7/32"])])
    reputation = both.reputation(address("203.0.113.7"), known_at=NOW)
    assert reputation.score == 100
    assert reputation.summary == "drop lists 203.0.113.0/24; team lists 203.0.113.7/32"


@given(st.lists(st.ip_addresses(v=4).map(str), min_size=1), st.ip_addresses(v=4))
def test_an_address_is_listed_exactly_when_a_line_holds_it(lines: list[str], asked: ipaddress.IPv4Address) -> None:
    found, _ = parse_list(PLAIN, "\n".join(lines).encode())
    index = ListIndex([(PLAIN, found)])
    for one in [*lines, str(asked)]:
        assert bool(index.look_up(address(one))) is (one in lines)
