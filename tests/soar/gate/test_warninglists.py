"""The index of warning lists: what is on a list is found in it, our decisions are complete, and the file is safe."""

from __future__ import annotations

import ipaddress
import json
import random
import re
from bisect import bisect_right
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from include.soar.gate import index_file
from include.soar.gate.gate import Gate
from include.soar.gate.hosts import plain_name
from include.soar.gate.index_file import DECISIONS, build, load, package_lists, read_decisions, read_own, shipped
from include.soar.gate.intervals import Intervals, Row, flatten, interval, overlapped
from include.soar.gate.warninglists import SUFFIXES, UNDECIDED, ListDecision, ListsError, WarningLists
from include.soar.model import Observable, ObservableType
from tests.soar.examples import address, domain, policy

NETWORKS = {"matching_attributes": ["ip-src", "domain|ip"], "type": "cidr"}
NAMES = {"matching_attributes": ["hostname", "domain"], "type": "hostname"}
FILES = {"matching_attributes": ["md5", "sha1", "sha256"], "type": "string"}


def content(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((package_lists() / name / "list.json").read_bytes())
    return found


def decision(use: str = "refuse", **more: Any) -> ListDecision:
    return ListDecision.model_validate({"use": use, "reason": "as a test wants it", **more})


def made(folder: Path, lists: dict[str, tuple[dict[str, Any], list[str], ListDecision | None]]) -> WarningLists:
    """An index of lists as in the package: kind, entries and decision of each, in this order."""
    for name, (kind, entries, _) in lists.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "list.json").write_text(json.dumps({**kind, "list": entries}), encoding="utf-8")
    return build({name: decided for name, (_, _, decided) in lists.items() if decided}, folder)


def asked(lists: WarningLists) -> Gate:
    return Gate(policy().never_block, lists)


# --- our decisions -----------------------------------------------------------------------------------------------


def test_every_list_of_the_package_is_decided_on_and_none_is_gone() -> None:
    there = {path.parent.name for path in package_lists().glob("*/list.json")}
    assert set(read_decisions(DECISIONS)) == there, "decide on it in include/config/never_block/lists.yaml"
    assert len(there) == 119


def test_every_entry_of_a_list_that_counts_could_be_read() -> None:
    assert shipped().skipped == []


def test_every_exception_and_every_refused_entry_is_still_on_its_list() -> None:
    """What names nothing any more only looks like a decision."""
    for name, decided in read_decisions(DECISIONS).items():
        named = {*decided.exceptions, *decided.refused}
        entries = {entry.strip() for entry in (content(name)["list"] if named else [])}
        inside = {text for text in named - entries if _is_inside(text, entries)}
        assert named - entries - inside == set(), name


def _is_inside(text: str, entries: set[str]) -> bool:
    """Whether it is a network that is cut out of an entry."""
    if "/" not in text or not text[0].isdigit():
        return False
    hole = ipaddress.IPv4Network(text)
    return any(hole.subnet_of(ipaddress.IPv4Network(entry)) for entry in entries if ":" not in entry)


def test_a_list_that_is_ignored_is_not_in_the_index() -> None:
    names = {name for name, _ in shipped().head["lists"] if name != SUFFIXES and not name.startswith("own:")}
    ignored = {name for name, decided in read_decisions(DECISIONS).items() if decided.use == "ignore"}
    assert names & ignored == set()
    assert names | ignored == set(read_decisions(DECISIONS))


# --- lists of our own ---------------------------------------------------------------------------------------------


def own(folder: Path, files: dict[str, str], decisions: str = "") -> WarningLists:
    """The index of our own lists alone: of the files of the folder ``own`` beside a file of decisions."""
    for name, text in files.items():
        (folder / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "own" / name).write_text(text, encoding="utf-8")
    path = folder / "lists.yaml"
    path.write_text(f"lists: {{}}\n{decisions}", encoding="utf-8")
    return build({}, folder / "no package", read_own(path))


RELAY = f"""
# iCloud Private Relay
203.0.113.0/28 # Berlin
2001:db8:1::/48

hook.example
.monitor.example
{"ab" * 32}
"""


def test_a_list_of_our_own_refuses_beside_the_packages(tmp_path: Path) -> None:
    """V5: iCloud Private Relay, webhooks' callers, monitors."""
    gate = asked(own(tmp_path, {"relay.txt": RELAY}))
    hit = gate.check(address("203.0.113.9"))
    assert hit is not None
    assert (hit.layer, hit.list_name, hit.entry) == ("warning-list", "own:relay", "203.0.113.0/28")
    assert hit.reason == "203.0.113.0/28 is on our own list relay: on a list of our own"
    for refused in (address("2001:db8:1::7"), domain("hook.example"), domain("a.monitor.example")):
        assert gate.check(refused) is not None
    assert gate.check(Observable(type=ObservableType.FILE, value="ab" * 32)) is not None
    for free in (address("203.0.113.16"), domain("a.hook.example")):
        assert gate.check(free) is None


def test_a_list_of_our_own_may_be_in_misps_form_and_may_tag(tmp_path: Path) -> None:
    lists = own(
        tmp_path,
        {"bots/list.json": json.dumps({**NETWORKS, "list": ["203.0.113.0/24"]})},
        'own: {bots: {use: tag, reason: "crawlers that we like"}}',
    )
    assert asked(lists).check(address("203.0.113.9")) is None
    assert lists.tags(address("203.0.113.9")) == ("own:bots",)


@pytest.mark.parametrize("line", ["203.0.113.0/33", "not a name", "203.0.113", "abcdef"])
def test_a_line_of_our_own_list_that_protects_nothing_is_an_error(tmp_path: Path, line: str) -> None:
    with pytest.raises(ListsError, match="line 2"):
        own(tmp_path, {"relay.txt": f"203.0.113.0/24\n{line}\n"})


def test_a_changed_list_of_our_own_makes_another_index(tmp_path: Path) -> None:
    path = tmp_path / "lists.yaml"
    path.write_text(DECISIONS.read_text("utf-8"), encoding="utf-8")
    (tmp_path / "own").mkdir()
    assert asked(load(path, cache=tmp_path / "kept")).check(address("203.0.113.9")) is None
    (tmp_path / "own/relay.txt").write_text("203.0.113.9\n", encoding="utf-8")
    assert asked(load(path, cache=tmp_path / "kept")).check(address("203.0.113.9")) is not None


@pytest.mark.parametrize("cloud", ["amazon-aws", "google-gcp", "microsoft-azure"])
def test_hardly_any_of_a_cloud_is_refused(cloud: str) -> None:
    """Attackers rent there, so a gate that protects it is of no use. Azure's list holds some of Microsoft 365."""
    table = flatten([Row(*row[1:], 1) for row in map(interval, content(cloud)["list"]) if row[0] == 4], 4)
    refused, whole = 0, 0
    for start, end, value in zip(table[0], [*table[0][1:], 1 << 32], table[1], strict=True):
        if value:
            whole += end - start
            refused += _held(shipped().networks[4], start, end)
    assert whole > 10_000_000
    assert refused / whole < 0.03


def _held(table: Intervals, first: int, end: int) -> int:
    """How many of the addresses from ``first`` to before ``end`` have a value."""
    starts, values = table
    places = range(_place(starts, first), _place(starts, end - 1) + 1)
    ends = [*starts[1:], 1 << 32]
    return sum(min(ends[p], end) - max(starts[p], first) for p in places if values[p])


def _place(starts: list[int], number: int) -> int:
    return bisect_right(starts, number) - 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("lists: {a: {use: maybe, reason: a good reason}}", r"lists\.yaml: lists\.a\.use: "),
        ("lists: {a: {use: tag, reason: short}}", r"lists\.a\.reason: "),
        ("lists: {a: {use: tag, reason: a good reason, ecxept: {}}}", r"lists\.a\.ecxept: "),
        ("other: {}", "lists"),
        ("- a", "lists.yaml: "),
        ("lists: [", "lists.yaml: "),
    ],
)
def test_a_wrong_decision_is_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "lists.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ListsError, match=named):
        read_decisions(tmp_path / "lists.yaml")
    with pytest.raises(ListsError, match=r"nowhere\.yaml"):
        load(tmp_path / "nowhere.yaml", cache=None)


# --- how entries match -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "match", "entry", "protected", "free"),
    [
        ("hostname", None, "site.example", ["site.example", "www.site.example"], ["a.site.example", "mysite.example"]),
        ("string", None, "site.example", ["site.example"], ["www.site.example", "a.site.example"]),
        ("string", "www", "site.example", ["www.site.example"], ["a.site.example"]),
        ("substring", None, "site.example", ["site.example", "a.b.site.example"], ["mysite.example"]),
        ("hostname", "suffix", "site.example", ["a.site.example"], ["mysite.example"]),
        ("string", None, ".site.example", ["site.example", "a.site.example"], ["mysite.example"]),
        ("string", None, "Bücher.Example", ["xn--bcher-kva.example"], []),
        ("hostname", None, "www.site.example", ["www.site.example"], ["site.example", "www.www.site.example"]),
    ],
)
def test_how_names_match(
    tmp_path: Path, kind: str, match: str | None, entry: str, protected: list[str], free: list[str]
) -> None:
    gate = asked(made(tmp_path, {"a": ({**NAMES, "type": kind}, [entry], decision(match=match))}))
    assert {name: gate.check(domain(name)) is not None for name in (*protected, *free)} == {
        **dict.fromkeys(protected, True),
        **dict.fromkeys(free, False),
    }


def test_an_entry_that_is_an_address_in_a_list_of_names_is_an_address(tmp_path: Path) -> None:
    kind = {"matching_attributes": ["hostname", "domain|ip"], "type": "hostname"}
    gate = asked(made(tmp_path, {"a": (kind, ["203.0.113.7", "site.example"], decision())}))
    assert gate.check(address("203.0.113.7")) is not None
    assert gate.check(domain("site.example")) is not None


def test_a_fuzzy_hash_is_no_address(tmp_path: Path) -> None:
    """``3::`` is the fuzzy hash of an empty file, and reads like IPv6."""
    lists = made(tmp_path, {"a": (FILES, ["3::", "A" * 32, "b" * 56], decision())})
    assert lists.skipped == [["a", "3::"]]
    assert lists.networks[6] == ([0], [0])
    assert lists.file("a" * 32) == ("misp:a", "a" * 32, "as a test wants it")
    assert lists.file("b" * 32) is None


def test_hashes_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    listed = ["0" * 30 + end for end in ("01", "02", "0f")]
    lists = made(tmp_path, {"a": (FILES, listed, decision())})
    assert [lists.file("0" * 30 + end) is not None for end in ("00", "01", "02", "03", "0f", "ff")] == [
        False,
        True,
        True,
        False,
        True,
        False,
    ]


def test_exceptions_do_not_count_and_a_network_is_cut_out_of_its_entry(tmp_path: Path) -> None:
    exceptions = {"except": {"203.0.113.64/26": "not theirs", ".b.example": "rented out"}}
    nets = (NETWORKS, ["203.0.113.0/24", "198.51.100.0/24"], decision(**exceptions))
    names = (NAMES, ["a.example", ".b.example"], decision(**exceptions))
    gate = asked(made(tmp_path, {"nets": nets, "names": names}))
    free = [n for n in range(256) if gate.check(address(f"203.0.113.{n}")) is None]
    assert free == list(range(64, 128))
    hit = gate.check(address("203.0.113.1"))
    assert hit is not None
    assert hit.entry == "203.0.113.0/24"
    assert gate.check(address("198.51.100.7")) is not None
    assert gate.check(domain("a.example")) is not None
    assert gate.check(domain("x.b.example")) is None


def test_single_entries_of_a_tag_list_can_be_refused(tmp_path: Path) -> None:
    decided = decision("tag", refuse={"203.0.113.0/28": "their own"})
    lists = made(tmp_path, {"a": (NETWORKS, ["203.0.113.0/24", "203.0.113.0/28"], decided)})
    gate = asked(lists)
    assert gate.check(address("203.0.113.1")) is not None
    assert gate.check(address("203.0.113.17")) is None
    assert lists.tags(address("203.0.113.17")) == ("a",)


def test_of_two_lists_the_longest_prefix_and_then_the_first_answers(tmp_path: Path) -> None:
    lists = made(
        tmp_path,
        {
            "wide": (NETWORKS, ["203.0.113.0/24"], decision()),
            "narrow": (NETWORKS, ["203.0.113.0/28", "198.51.100.0/24"], decision()),
            "again": (NETWORKS, ["203.0.113.0/28", "203.0.113.0/24"], decision()),
            "names": (NAMES, ["a.example"], decision()),
            "names again": (NAMES, ["a.example"], decision()),
        },
    )
    gate = asked(lists)
    found = [gate.check(o) for o in (address("203.0.113.1"), address("203.0.113.99"), domain("a.example"))]
    assert [hit.list_name for hit in found if hit] == ["misp:narrow", "misp:wide", "misp:names"]


def test_a_list_that_nobody_has_decided_on_is_refused_and_says_so(tmp_path: Path) -> None:
    gate = asked(made(tmp_path, {"brand-new": (NETWORKS, ["203.0.113.0/24"], None)}))
    hit = gate.check(address("203.0.113.7"))
    assert hit is not None
    assert hit.list_name == "misp:brand-new"
    assert UNDECIDED.reason in hit.reason


def test_tags_of_lists_that_overlap(tmp_path: Path) -> None:
    lists = made(
        tmp_path,
        {
            "cloud": (NETWORKS, ["203.0.113.0/24", "203.0.113.128/25"], decision("tag")),
            "vpn": (NETWORKS, ["203.0.113.64/26", "203.0.113.120/29"], decision("tag")),
            "files": (FILES, ["a" * 32], decision("tag")),
        },
    )
    gate = asked(lists)
    tags = [lists.tags(address(f"203.0.113.{n}")) for n in (0, 64, 127, 128, 255)]
    assert tags == [("cloud",), ("cloud", "vpn"), ("cloud", "vpn"), ("cloud",), ("cloud",)]
    assert lists.tags(address("203.0.114.0")) == lists.tags(address("203.0.112.255")) == ()
    assert gate.check(address("203.0.113.64")) is None
    assert lists.file("a" * 32) is None


@pytest.mark.parametrize("bad", ['{"list": ["203.0.113.0/24"]}', "{", "[]"])
def test_a_list_that_cannot_be_read_is_an_error(tmp_path: Path, bad: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/list.json").write_text(bad, encoding="utf-8")
    with pytest.raises(ListsError, match=r"a/list\.json"):
        build({}, tmp_path)


# --- the shipped lists against a plain scan ----------------------------------------------------------------------


def test_addresses_are_refused_exactly_as_a_plain_scan_says() -> None:
    """Edges of a sample of entries, and what lies beside them; the oracle is a loop over every network."""
    chance = random.Random(3)
    decided = {name: d for name, d in read_decisions(DECISIONS).items() if d.use == "refuse"}
    networks = []
    for name in decided:
        listed = content(name)
        if listed["type"] == "cidr":
            networks += [interval(text) for text in listed["list"] if text not in decided[name].exceptions]
    networks += [interval(text) for text in read_decisions(DECISIONS)["github"].refused]
    names = content("public-dns-hostname")["list"]
    networks += [interval(text) for text in names if re.fullmatch(r"[0-9.]+", text)]
    lists = shipped()
    for family, first, last, _ in chance.sample(networks, 60):
        for number in {first, last, max(0, first - 1), last + 1, chance.randint(first, last)}:
            held = any(f == family and a <= number <= b for f, a, b, _ in networks)
            starts, values = lists.networks[family]
            assert bool(values[_place(starts, number)]) == held, (family, number)


def test_every_file_and_every_name_of_a_refused_list_is_found() -> None:
    lists = shipped()
    for name in ("nioc-filehash", "ti-falsepositives"):
        for value in content(name)["list"][::501]:
            assert lists.file(value) is not None
    for name in ("tranco10k", "alexa", "public-dns-hostname", "second-level-tlds"):
        decided = read_decisions(DECISIONS)[name]
        for entry in content(name)["list"][::101]:
            spelled = plain_name(entry)
            if entry not in decided.exceptions and spelled and not re.fullmatch(r"[0-9.]+", spelled):
                assert spelled in lists.exact, (name, entry)
    assert lists.file("0" * 64) is None


# --- the file ----------------------------------------------------------------------------------------------------


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Decisions that ignore every list but two, so that the index is made quickly."""
    kept = {"akamai": "refuse", "censys-scanning": "tag"}
    lists = {
        name: {"use": kept.get(name, "ignore"), "reason": "as a test wants it"} for name in read_decisions(DECISIONS)
    }
    path = tmp_path / "lists.yaml"
    path.write_text(yaml.safe_dump({"lists": lists}), encoding="utf-8")
    return path


def same(a: WarningLists, b: WarningLists) -> bool:
    return {k: bytes(v) for k, v in a.sections.items()} == {k: bytes(v) for k, v in b.sections.items()}


def index_files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_the_index_is_made_once_and_read_again(few: Path, tmp_path: Path) -> None:
    cache = tmp_path / "deep/cache"
    first = load(few, cache=cache)
    [path] = index_files(cache)
    written = path.stat().st_mtime_ns
    second = load(few, cache=cache)
    assert same(first, second)
    assert path.stat().st_mtime_ns == written
    hit = Gate(policy().never_block, second).check(address("23.32.3.1"))
    assert hit is not None
    assert hit.list_name == "misp:akamai"
    assert second.tags(address("162.142.125.1")) == ("censys-scanning",)


def test_another_decision_is_another_index_and_takes_the_place_of_the_old_one(few: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    load(few, cache=cache)
    before = index_files(cache)
    few.write_text(few.read_text("utf-8").replace("refuse", "tag"), encoding="utf-8")
    assert load(few, cache=cache).networks[4] == ([0], [0])
    after = index_files(cache)
    assert len(after) == 1
    assert after != before


def test_another_version_of_the_package_is_another_index(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(few, cache=tmp_path / "cache")
    before = index_files(tmp_path / "cache")
    monkeypatch.setattr(index_file, "version", lambda name: f"{version(name)}.1")
    load(few, cache=tmp_path / "cache")
    assert index_files(tmp_path / "cache") != before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:40],
        lambda content: content[:-1],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: b"x" + content[1:],
    ],
    ids=["empty", "head only", "cut", "one bit", "another file"],
)
def test_a_broken_file_is_made_again(few: Path, tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    first = load(few, cache=tmp_path / "cache")
    [path] = index_files(tmp_path / "cache")
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    assert same(load(few, cache=tmp_path / "cache"), first)
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_costs_no_answer(few: Path, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("", encoding="utf-8")
    lists = load(few, cache=tmp_path / "a file/cache")
    assert same(lists, load(few, cache=None))
    assert index_files(tmp_path) == [tmp_path / "a file", few]


def test_several_may_make_it_at_once(few: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: load(few, cache=tmp_path / "cache"), range(4)))
    assert all(same(made[0], other) for other in made)
    [path] = index_files(tmp_path / "cache")  # nothing half-written is left
    assert path.suffix == ".index"


# --- parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "a.example", "203.0.113.0/33", "203.0.113.0/-1", "203.0.113", "2001:db8::/129", "1/x"]
)
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        interval(text)


def test_host_bits_of_a_list_are_cleared() -> None:
    assert interval("203.0.113.7/24") == (4, 0xCB007100, 0xCB0071FF, 24)
    assert interval("2001:DB8::/32")[1] == 0x20010DB8 << 96


def row(number: int, length: int, value: int) -> Row:
    first = number >> 32 - length << 32 - length
    return Row(first, first + (1 << 32 - length) - 1, length, value)


ROWS = st.lists(st.builds(row, st.integers(0, 255), st.integers(24, 32), st.integers(1, 3)), max_size=8)


@given(ROWS, st.integers(0, 255), st.integers(24, 32))
def test_flatten_says_what_a_scan_says(rows: list[Row], number: int, length: int) -> None:
    table = flatten(rows, 4)
    holding = [row for row in rows if row.first <= number <= row.last]
    best = max(holding, key=lambda row: row.prefix, default=None)  # the first of equals
    assert table[1][_place(table[0], number)] == (best.value if best else 0)
    network = ipaddress.ip_network((number >> 32 - length << 32 - length, length))
    touched = any(row.first <= int(network[-1]) and row.last >= int(network[0]) for row in rows)
    assert any(overlapped(table, network)) == touched


def test_kinds_of_observables_have_lists() -> None:
    """Each kind that the gate decides on is protected by at least one list."""
    lists = shipped()
    assert lists.networks[4][0][1:]
    assert lists.networks[6][0][1:]
    assert lists.exact
    assert lists.suffixes
    assert lists.emails
    assert lists.file("d41d8cd98f00b204e9800998ecf8427e")
