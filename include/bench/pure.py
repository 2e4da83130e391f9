"""Measurement 1: what needs no network. Parsers, extraction on ordinary and on hostile text, and the gate."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from include.bench import gate
from include.bench.load import Record, build_load, public
from include.bench.measure import number, seconds, table, times
from include.demo.place import ROOT
from include.simulators.demo_feed.cast import CONFIG_ID
from include.soar.extract.findings import observe
from include.soar.extract.text import extract_text, forget
from include.soar.model import Finding
from threat_response.vendors.akamai_api_security import api as api_security
from threat_response.vendors.akamai_sia import api as sia

#: The day is always the same one: these measurements read no clock.
END = datetime(2026, 3, 4, 12, tzinfo=UTC)
POLICY = [ROOT / "include/config" / name for name in ("policy.yaml", "policy.demo.yaml")]

IPV4 = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")

#: What stalls a careless pattern, as (name, first, repeated). Each aims at another pattern of include/soar/extract.
HOSTILE = (
    ("a…", "", "a"),
    ("a.…", "", "a."),
    ("a-.…", "", "a-."),
    ("a@…", "", "a@"),
    ("x@x.x…", "", "x@x.x"),
    ("http://…", "", "http://"),
    ("http://a:a:…", "http://", "a:"),
    ("http://h/(((…", "http://a.example/", "("),
    ("http://h/)))…", "http://a.example/", ")"),
    ("1.2.3.4 …", "", "1.2.3.4 "),
    ("1.2.3.4.…", "", "1.2.3.4."),
    (":…", "", ":"),
    ("1:…", "", "1:"),
    ("g:1:…", "", "g:1:"),
    ("[.…", "", "[."),
    ("[.]…", "", "[.]"),
    ("( dot …", "", "( dot "),
    ("hxxp[:…", "", "hxxp[:"),
    ("0-9a-f…", "", "0123456789abcdef"),
    ("zero width…", "", "\u200b"),
)


def report(*, findings: int, hostile_size: int, repeats: int) -> Iterator[str]:
    """
    :param findings: how many records' worth; at least 1,000 make the numbers steady
    :param hostile_size: length of the longest hostile text, in characters
    """
    records = raw_records(findings)
    parsed = [parse(record) for _, parse, some in records for record in some]
    yield parsing(records, repeats)
    yield extraction(parsed, repeats)
    yield hostile(hostile_size, _megabytes_a_second(parsed, repeats))
    yield from gate.report(asked=40 * findings, repeats=repeats, thorough=findings >= 1000)


Records = list[tuple[str, Callable[[Any], Finding], list[Record]]]


def each(function: Callable[[Any], object], items: Sequence[Any]) -> Callable[[], object]:
    return lambda: [function(item) for item in items]


def raw_records(findings: int) -> Records:
    """Source, parser and records, as the vendor sends them."""
    day = build_load(END, findings=findings, high=max(1, findings // 20))
    security = day["akamai_api_security"]

    def readable(records: list[Record]) -> list[Record]:
        return [public(record) for record in records if record["_story"] != "broken_record"]

    return [
        ("API Security incidents", lambda r: api_security.parse("incident", r), readable(security["incidents"])),
        ("API Security findings", lambda r: api_security.parse("finding", r), readable(security["findings"])),
        ("SIA threat events", sia.parse_row, readable(day["akamai_sia"]["configs"][CONFIG_ID])),
    ]


def parsing(records: Records, repeats: int) -> str:
    rows = []
    for name, parse, some in records:
        texts = [json.dumps(record) for record in some]
        ours = seconds(each(parse, some), repeats)
        theirs = seconds(each(lambda text: json.dumps(json.loads(text)), texts), repeats)
        size = sum(map(len, texts)) // len(texts)
        rows.append((name, len(some), size, len(some) / ours, len(some) / theirs, times(ours, theirs)))
    return table(
        "1a. Parsing: the vendor's record to a finding",
        ("records", "number", "bytes each", "findings/s", "JSON round trips/s", "time against JSON"),
        rows,
        "JSON: json.loads and json.dumps of the same records.",
    )


def _megabytes_a_second(parsed: Sequence[Finding], repeats: int) -> float:
    spent = seconds(lambda: observe(parsed), repeats, before=forget)
    return sum(len(m.text.encode()) for f in parsed for m in f.mentions) / 1e6 / spent


def extraction(parsed: Sequence[Finding], repeats: int) -> str:
    texts = [mention.text for finding in parsed for mention in finding.mentions]
    size = sum(len(text.encode()) for text in texts) / 1e6
    whole = "\n".join(texts)
    measured = (
        ("observe(findings): every type, sightings", lambda: observe(parsed)),
        ("extract_text, text by text", each(extract_text, texts)),
        ("extract_text, all in one text", lambda: extract_text(whole)),
        ("one re.findall for IPv4, text by text", each(IPV4.findall, texts)),
        ("one re.findall for IPv4, all in one text", lambda: IPV4.findall(whole)),
    )
    spent = [(name, seconds(work, repeats, before=forget)) for name, work in measured]
    plain = spent[-2][1]
    return table(
        f"1b. Extraction: {len(texts):,} texts of {len(parsed):,} findings, {number(size)} MB",
        ("what", "MB/s", "texts/s", "time against one re"),
        [(name, size / t, len(texts) / t, times(t, plain)) for name, t in spent],
        "The plain scan finds one of six types, neither defanged nor checked; the ratio is the price of the rest.",
    )


def hostile(size: int, ordinary: float) -> str:
    """:param ordinary: MB/s on ordinary findings"""
    rows = []
    for name, first, repeated in HOSTILE:
        spent = []
        for length in (size // 8, size):
            text = (first + repeated * (length // len(repeated) + 1))[:length]
            megabytes = len(text.encode()) / 1e6
            spent.append(seconds(each(extract_text, [text]), 1, before=forget) / megabytes)
        rows.append((name, megabytes, spent[0], spent[1], times(spent[1], spent[0]), times(spent[1], 1 / ordinary)))
    worst = max(rows, key=lambda row: row[3])
    rows.append(("worst of them", *worst[1:]))
    return table(
        "1c. Extraction on hostile text: does any input stall it?",
        ("text, repeated", "MB", "s/MB at 1/8", "s/MB at full length", "growth", "against ordinary"),
        rows,
        "Growth: seconds per MB at full length by those at an eighth of it. Linear is 1 x, quadratic would be 8 x.",
        f"Ordinary: the findings of 1b, {number(1 / ordinary)} s/MB. The pipeline cuts a text at 65,536 characters.",
    )
