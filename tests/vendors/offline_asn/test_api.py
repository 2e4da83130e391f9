"""Whose network an address is in, by a table in iptoasn's format."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from include.soar.model import Answer
from include.soar.vendor.errors import Unexpected
from tests.soar.examples import NOW, address
from threat_response.vendors.offline_asn import api

SAMPLE = (Path(__file__).parent / "samples/ip2asn-combined.tsv").read_bytes()
ROW = "203.0.113.0\t203.0.113.255\t64497\tZZ\tEXAMPLE"


@pytest.mark.parametrize("content", [SAMPLE, gzip.compress(SAMPLE), SAMPLE.replace(b"\n", b"\r\n")])
@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("198.51.100.0", ("AS64496", "as-name:EXAMPLE-NET Example Hosting", "country:ZZ")),
        ("198.51.100.127", ("AS64496", "as-name:EXAMPLE-NET Example Hosting", "country:ZZ")),
        # The same system in another country.
        ("198.51.100.128", ("AS64496", "as-name:EXAMPLE-NET Example Hosting", "country:YY")),
        ("203.0.113.7", ("AS64497", "as-name:EXAMPLE-TWO")),
        ("2001:db8::1", ("AS64511", "as-name:EXAMPLE-SIX", "country:ZZ")),
        ("192.0.2.1", ()),  # AS 0: not routed
        ("198.51.101.0", ()),
        ("2001:db8:1::", ()),
    ],
)
def test_context_is_no_opinion(content: bytes, value: str, tags: tuple[str, ...]) -> None:
    table = api.parse_table(content)
    reputation = api.context(address(value), table, body_digest="d", known_at=NOW)
    assert (reputation.answer, reputation.score, reputation.tags) == (Answer.NOT_APPLICABLE, None, tags)
    assert (reputation.provider, reputation.known_at) == ("offline_asn", NOW)
    assert reputation.body_digest == ("d" if tags else "")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "there is no range in it"),
        ("192.0.2.0\t192.0.2.255\t0\tNone\tNot routed", "there is no range in it"),
        ("<html>\n<body>x</body></html>", "line 1: not five columns"),
        (f"{ROW}\n198.51.100.0\t198.51.100.255\t64496\tZZ", "line 2: not five columns"),
        (f"{ROW}\n\n198.51.100.0\t198.51.100.255\tAS64496\tZZ\tX", "line 3: 'AS64496' is no AS number"),
        (f"{ROW}\n198.51.100.0\t198.51.100.255\t4294967296\tZZ\tX", "line 2: '4294967296' is no AS number"),
        (f"{ROW}\n198.51.100.9\t198.51.100.1\t64496\tZZ\tX", "line 2: 198.51.100.9 to 198.51.100.1 is no range"),
        (f"{ROW}\n{ROW}", "two ranges hold 203.0.113.0"),
    ],
)
def test_what_is_no_such_table_is_not_half_read(content: str, problem: str) -> None:
    with pytest.raises(Unexpected, match=problem):
        api.parse_table(content.encode())


def test_a_file_that_was_cut_or_unpacks_to_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(SAMPLE)
    with pytest.raises(Unexpected, match="the file is cut"):
        api.parse_table(packed[:-20])
    with pytest.raises(Unexpected):
        api.parse_table(packed[:20] + b"odd")
    monkeypatch.setattr(api, "LARGEST_TABLE", 100)
    with pytest.raises(Unexpected, match="longer than 100 bytes when unpacked"):
        api.parse_table(packed)
