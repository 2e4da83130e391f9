"""Block lists: what a list says, and looking a value up in many of them."""

from __future__ import annotations

import gzip
import ipaddress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.soar.extract.values import parse_url
from include.soar.model import Answer, Observable, ObservableType
from include.soar.vendor.errors import Unexpected
from tests.soar.examples import NOW, address, domain
from threat_response.vendors.list_feed import api, formats
from threat_response.vendors.list_feed.api import Copy, ListIndex, Source, parse_sources
from threat_response.vendors.list_feed.formats import parse_list

SAMPLES = Path(__file__).parent / "samples"
DROP = Source("drop", "drop", "/drop/drop_v4.json", 100)
CSV = Source("tracker", "csv:dst_ip", "/lists/tracker.csv", 80)
PLAIN = Source("team", "plain", "file:///lists/team.txt", 60)


def entries(source: Source, name: str) -> list[str]:
    return parse_list(source, (SAMPLES / name).read_bytes())[0]


def test_sources() -> None:
    text = "drop drop /drop/drop_v4.json\n\n  team-2 csv:3 s3://aws@bucket/team.csv 60 | x_3 plain file:///x 1"
    assert parse_sources(text) == [
        Source("drop", "drop", "/drop/drop_v4.json", 100),
        Source("team-2", "csv:3", "s3://aws@bucket/team.csv", 60),
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
        ("a csv: /a", "line 1: format 'csv:'"),
        ("a plain:2 /a", "line 1: format 'plain:2'"),
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
    request = api.list_request(DROP, etag='"abc"', last_modified="Tue, 24 Nov 2026 12:00:00 GMT", largest_bytes=99)
    assert request.largest_bytes == 99
    assert (request.method, request.path, request.writes) == ("GET", "/drop/drop_v4.json", False)
    assert request.headers["If-None-Match"] == '"abc"'
    assert request.headers["If-Modified-Since"] == "Tue, 24 Nov 2026 12:00:00 GMT"
    assert set(api.list_request(DROP, etag=None, last_modified=None, largest_bytes=99).headers) == {"Accept"}


def test_a_drop_list() -> None:
    assert entries(DROP, "drop_v4.json") == ["network:198.51.100.0/26", "network:203.0.113.0/25"]


def test_a_plain_list() -> None:
    found, broken = parse_list(PLAIN, (SAMPLES / "plain.txt").read_bytes())
    assert broken == ["this line is none of it"]
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
    found, broken = parse_list(PLAIN, f"203.0.113.7\n198.51.100.0/24\n{line}\n".encode())
    assert (len(found), broken) == (2, [line])


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


def test_a_drop_list_of_autonomous_systems() -> None:
    lines = [
        '{"asn":64496,"rir":"arin","domain":"bad.example","cc":"ZZ","asname":"BAD"}',
        '{"asn":true}',
        '{"as":64497}',
    ]
    found, broken = parse_list(DROP, "\n".join([*lines, lines[0].replace("64496", "64498")]).encode())
    assert found == ["autonomous-system:AS64496", "autonomous-system:AS64498"]
    assert broken == lines[1:]


def test_a_table_by_the_name_of_a_column() -> None:
    """As abuse.ch writes it: the head is a comment, everything is quoted."""
    found, broken = parse_list(CSV, (SAMPLES / "tracker.csv").read_bytes())
    assert found == ["domain-name:c2.example", "network:198.51.100.0/25", "network:203.0.113.7/32"]
    assert broken == ['"2026-11-24 05:00:00","not an address","443","online"', '"2026-11-24 05:10:00"']


@pytest.mark.parametrize(
    ("kind", "content", "found"),
    [
        ("csv:2", "1,203.0.113.7\n2,203.0.113.8\n", 2),
        ("csv:1", "203.0.113.7\n203.0.113.8", 2),
        ("tsv:1", "203.0.113.7\t12\n# a comment\n203.0.113.8\t9\n", 2),
        ("tsv:2", "\t203.0.113.7\n\t203.0.113.8\n", 2),  # the first column is empty
        ("csv:ip", "\ufeffip,more\n203.0.113.7,x\n", 1),  # a spreadsheet's mark
        ("csv:ip", 'n, "ip"\n1, "203.0.113.7"\n', 1),
        ("csv:1", '"203.0.113.7\n203.0.113.8\n203.0.113.9\n', 3),  # a stray quote swallows nothing
        ("csv:2", '"a, b",203.0.113.7', 1),
    ],
)
def test_a_table(kind: str, content: str, found: int) -> None:
    parsed = parse_list(Source("t", kind, "/t", 80), content.encode())
    assert (len(parsed.entries), parsed.broken) == (found, [])


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("csv:ip", "address,more\n203.0.113.7,x\n"),
        ("csv:7", "203.0.113.7,x\n"),
        ("csv:0", "203.0.113.7,x\n"),
        ("tsv:1", "203.0.113.7,x\n"),
        ("csv:ip", "ip,more\n"),
        ("csv:ip", ""),
    ],
)
def test_another_table_is_not_an_empty_list(kind: str, content: str) -> None:
    with pytest.raises(Unexpected, match="not a "):
        parse_list(Source("t", kind, "/t", 80), content.encode())


@pytest.mark.parametrize(
    ("line", "found"),
    [
        # R1: in a URL these signs are path and fragment.
        ("http://good.example/#/drop/a.exe", ["url:http://good.example/#/drop/a.exe"]),
        ("http://bank.example/login;jsessionid=1/e.hta", ["url:http://bank.example/login;jsessionid=1/e.hta"]),
        ("http://evil.example/a;b#c  # seen in May", ["url:http://evil.example/a;b#c"]),
        ("203.0.113.0/24 ; SBL1", ["network:203.0.113.0/24"]),
        ("203.0.113.0/24\t#x", ["network:203.0.113.0/24"]),
        ("203.0.113.0-203.0.113.255", ["network:203.0.113.0/24"]),  # R11
        ("203.0.113.4 - 203.0.113.6", ["network:203.0.113.4/31", "network:203.0.113.6/32"]),
        ("2001:db8:1::-2001:db8:1::ffff", ["network:2001:db8:1::/112"]),
        ("0.0.0.0 evil.example", ["domain-name:evil.example"]),
        ("127.0.0.1\tevil.example bad.example # ads", ["domain-name:bad.example", "domain-name:evil.example"]),
        ("||evil.example^", ["domain-name:evil.example"]),
        ("||evil.example^$third-party", ["domain-name:evil.example"]),
        ("*.evil.example", ["domain-name:evil.example"]),
        ("hxxp://evil[.]example/a", ["url:http://evil.example/a"]),
        ("evil[.]example", ["domain-name:evil.example"]),
        ("203[.]0[.]113[.]7", ["network:203.0.113.7/32"]),
        (f"{'a1' * 16}  a file.exe", [f"file:{'a1' * 16}"]),
    ],
)
def test_what_a_line_of_a_plain_list_names(line: str, found: list[str]) -> None:
    parsed = parse_list(PLAIN, f"192.0.2.1\n{line}\n".encode())
    assert (parsed.entries, parsed.broken) == (sorted(["network:192.0.2.1/32", *found]), [])


@pytest.mark.parametrize(
    "line",
    ["203.0.113.9-203.0.113.1", "0.0.0.0-255.255.255.255", "203.0.113.1-2001:db8::1", "# x", "127.0.0.1 localhost"],
)
def test_a_line_that_lists_nobody(line: str) -> None:
    parsed = parse_list(PLAIN, f"192.0.2.1\n{line}\n".encode())
    assert parsed.entries == ["network:192.0.2.1/32"]
    assert parsed.broken == ([line] if "-" in line else [])


DSHIELD = "Start\tEnd\tNetmask\tAttacks\n203.0.113.0\t203.0.113.255\t24\t5120\n198.51.100.0\t198.51.100.127\t25\t9\n"


@pytest.mark.parametrize("kind", ["tsv:Start", "tsv:start", "tsv:Start-End", "tsv:1-2"])
def test_a_table_of_ranges_is_not_taken_as_their_first_addresses(kind: str) -> None:
    """R11: DShield's block list."""
    content = DSHIELD if "tart" in kind else DSHIELD.partition("\n")[2]
    parsed = parse_list(Source("t", kind, "/t", 80), content.encode())
    assert (parsed.entries, parsed.broken) == (["network:198.51.100.0/25", "network:203.0.113.0/24"], [])


def test_a_column_by_its_number_that_begins_ranges_is_refused() -> None:
    with pytest.raises(Unexpected, match="write tsv:1-2"):
        parse_list(Source("t", "tsv:1", "/t", 80), DSHIELD.partition("\n")[2].encode())


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("csv:ip", "IP,more\n203.0.113.7,x\n"),
        ("csv:ip", "ip;more\n203.0.113.7;x\n"),
        ("csv:2", "1;203.0.113.7\n2;203.0.113.7\n"),
        ("csv:ip", "# ip, port and when it was seen\n# more of it\n# ip,port\n203.0.113.7,4\n"),
        ("csv:ip", "# port, ip\nip,port\n203.0.113.7,443\n"),  # a remark with the column's name in it
        ("csv:dst-ip", "dst-ip,more\n203.0.113.7,x\n"),
    ],
)
def test_other_spellings_of_a_table(kind: str, content: str) -> None:
    assert parse_list(Source("t", kind, "/t", 80), content.encode()) == (["network:203.0.113.7/32"], [])


def test_a_list_may_be_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress((SAMPLES / "plain.txt").read_bytes())
    assert parse_list(PLAIN, packed).entries == entries(PLAIN, "plain.txt")
    with pytest.raises(Unexpected, match="is cut"):
        parse_list(PLAIN, packed[:-9])
    monkeypatch.setattr(formats, "LARGEST_UNPACKED", 1000)
    with pytest.raises(Unexpected, match="longer than 1,000 bytes"):
        parse_list(PLAIN, gzip.compress(b"203.0.113.7\n" * 1000))


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


def test_an_autonomous_system_is_looked_up_by_its_number() -> None:
    asn = Observable(type=ObservableType.ASN, value="AS64496")
    index = ListIndex([(DROP, ["autonomous-system:AS64496"])])
    assert index.reputation(asn, known_at=NOW).answer is Answer.LISTED


LONG_AGO = NOW - timedelta(days=30)
BAD, UNSEEN = address("203.0.113.7"), address("198.51.100.1")


def said(drop: Copy, team: Copy, observable: Observable) -> Any:
    lists = [(DROP, ["network:203.0.113.0/24"]), (PLAIN, ["domain-name:bad.example", "network:203.0.113.8/32"])]
    return ListIndex(lists, {"drop": drop, "team": team}).reputation(observable, known_at=NOW)


def test_an_answer_tells_the_bodies_that_it_was_read_from() -> None:
    drop, team = Copy(NOW, "d1"), Copy(NOW, "t1")
    assert said(drop, team, BAD).body_digest == "d1"
    absent = said(drop, team, UNSEEN)
    assert (absent.answer, len(absent.body_digest)) == (Answer.NOT_LISTED, 64)
    assert said(drop, Copy(NOW, "t2"), UNSEEN).body_digest != absent.body_digest


def test_a_stale_list_says_so_and_its_silence_is_no_answer() -> None:
    stale = "is stale: last read at 2026-10-25 12:00Z"
    drop, team = Copy(LONG_AGO, "d1", stale), Copy(NOW, "t1")
    listed = said(drop, team, BAD)
    # Last reported then: so the word of a list that nobody can read any more fades.
    assert (listed.answer, listed.last_reported_at) == (Answer.LISTED, LONG_AGO)
    assert listed.summary == f"drop lists 203.0.113.0/24; drop {stale}"
    absent = said(drop, team, UNSEEN)
    assert (absent.answer, absent.score) == (Answer.NOT_CHECKED, None)
    assert absent.summary == f"on no list, but drop {stale}"
    fresh = said(drop, team, domain("bad.example"))
    assert (fresh.summary, fresh.last_reported_at) == ("team lists bad.example", None)
    assert said(drop, team, address("203.0.113.8")).last_reported_at is None, "a fresh list says so too"


@pytest.mark.parametrize(
    ("reference", "doubt"),
    [
        ({"uri": "file:///x", "fetched_at": (NOW - timedelta(hours=47)).isoformat()}, ""),
        (
            {"uri": "file:///x", "fetched_at": (NOW - timedelta(hours=48)).isoformat()},
            "is stale: last read at 2026-11-22 12:00Z",
        ),
        ({"uri": None, "problem": "there is no such object"}, "could not be read: there is no such object"),
    ],
)
def test_why_a_copy_is_in_doubt(reference: dict[str, Any], doubt: str) -> None:
    assert api.doubt(reference, now=NOW, stale_after=timedelta(hours=48)) == doubt


@given(st.lists(st.ip_addresses(v=4).map(str), min_size=1), st.ip_addresses(v=4))
def test_an_address_is_listed_exactly_when_a_line_holds_it(lines: list[str], asked: ipaddress.IPv4Address) -> None:
    found, _ = parse_list(PLAIN, "\n".join(lines).encode())
    index = ListIndex([(PLAIN, found)])
    for one in [*lines, str(asked)]:
        assert bool(index.look_up(address(one))) is (one in lines)
