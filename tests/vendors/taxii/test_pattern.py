"""STIX patterns: what is read, and what is named as not readable."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from threat_response.vendors.taxii.pattern import LONGEST_PATTERN, read_pattern

HASH = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


def read(text: str) -> tuple[list[str], list[str]]:
    reading = read_pattern(text)
    return [observable.key for observable in reading.named], list(reading.problems)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[ipv4-addr:value = '203.0.113.7']", ["ipv4-addr:203.0.113.7"]),
        ("[ipv4-addr:value='203.0.113.7']", ["ipv4-addr:203.0.113.7"]),
        ("  [ ipv4-addr:value\n=\t'203.0.113.7' ]  ", ["ipv4-addr:203.0.113.7"]),
        ("[ipv4-addr:value == '203.0.113.7']", ["ipv4-addr:203.0.113.7"]),
        ("[ipv4-addr:value = '203.0.113.7/32']", ["ipv4-addr:203.0.113.7"]),
        ("[ipv4-addr:value = '203.0.113.0/24']", ["cidr:203.0.113.0/24"]),
        ("[ipv4-addr:value ISSUBSET '203.0.113.9/24']", ["cidr:203.0.113.0/24"]),
        ("[ipv6-addr:value ISSUBSET '2001:DB8::/32']", ["cidr:2001:db8::/32"]),
        ("[domain-name:value = 'Evil.Example.']", ["domain-name:evil.example"]),
        ("[url:value = 'HTTPS://Evil.example/A?b=\\'c\\'']", ["url:https://evil.example/A?b='c'"]),
        ("[url:value = 'https://evil.example/a ']", ["url:https://evil.example/a"]),
        ("[email-addr:value = 'me@Evil.example']", ["email-addr:me@evil.example"]),
        ("[email-message:from_ref.value = 'me@evil.example']", ["email-addr:me@evil.example"]),
        (f"[file:hashes.'SHA-256' = '{HASH.upper()}']", [f"file:{HASH}"]),
        (f"[file:hashes.SHA256 = '{HASH}']", [f"file:{HASH}"]),
        ("[file:hashes.MD5 = 'c8372a6127166207f570d10e9ba99fd1']", ["file:c8372a6127166207f570d10e9ba99fd1"]),
        ("[network-traffic:dst_ref.value = '203.0.113.7']", ["ipv4-addr:203.0.113.7"]),
        ("[network-traffic:dst_ref.value = 'evil.example']", ["domain-name:evil.example"]),
        (
            "[ipv4-addr:value = '203.0.113.7' OR ipv4-addr:value = '203.0.113.8' OR domain-name:value = 'a.example']",
            ["ipv4-addr:203.0.113.7", "ipv4-addr:203.0.113.8", "domain-name:a.example"],
        ),
        (
            "[ipv4-addr:value = '203.0.113.7'] OR ([domain-name:value = 'a.example'])",
            ["ipv4-addr:203.0.113.7", "domain-name:a.example"],
        ),
        (
            "[(ipv4-addr:value = '203.0.113.7' OR (domain-name:value = 'a.example'))]",
            ["ipv4-addr:203.0.113.7", "domain-name:a.example"],
        ),
        ("[ipv4-addr:value = '203.0.113.7' OR ipv4-addr:value = '203.0.113.7']", ["ipv4-addr:203.0.113.7"]),
    ],
)
def test_what_is_read(text: str, named: list[str]) -> None:
    assert read(text) == (named, [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[ipv4-addr:value = '203.0.113.7' AND network-traffic:dst_port = 443]", "AND"),
        ("[ipv4-addr:value = '203.0.113.7'] AND [domain-name:value = 'a.example']", "AND"),
        ("[ipv4-addr:value = '203.0.113.7'] FOLLOWEDBY [domain-name:value = 'a.example']", "FOLLOWEDBY"),
        ("[ipv4-addr:value = '203.0.113.7'] REPEATS 5 TIMES", "REPEATS"),
        ("([ipv4-addr:value = '203.0.113.7']) WITHIN 600 SECONDS", "WITHIN"),
        (
            "[ipv4-addr:value = '203.0.113.7'] START t'2026-01-01T00:00:00Z' STOP t'2026-02-01T00:00:00Z'",
            "START",
        ),
        ("[NOT ipv4-addr:value = '203.0.113.7']", "NOT"),
        ("[ipv4-addr:value NOT = '203.0.113.7']", "NOT"),
        ("[ipv4-addr:value != '203.0.113.7']", "NOT"),
        ("[ipv4-addr:value NOT IN ('203.0.113.7', '203.0.113.8')]", "NOT"),
        ("[url:value LIKE 'https://evil.example/%']", "LIKE"),
        ("[url:value MATCHES '^https']", "MATCHES"),
        ("[ipv4-addr:value ISSUPERSET '203.0.113.0/24']", "ISSUPERSET"),
        ("[EXISTS ipv4-addr:value]", "EXISTS"),
        ("[process:command_line  = 'cmd \\'x\\' ] OR [']", "process:command_line"),
        ("[windows-registry-key:values[*].data = 'x']", "windows-registry-key:values[*].data"),
        ("[file:extensions.'x-y z'.a = 'x']", "file:extensions.x-y z.a"),
        ("[network-traffic:dst_port = 443]", "network-traffic:dst_port"),
        ("[file:hashes.'ssdeep' = 'x']", "file:hashes.ssdeep"),
        ("[file:hashes.MD5 = 'not a hash']", "file:hashes.MD5 with a value that is none"),
        ("[url:value = 'https://evil.example /a']", "url:value with a value that is none"),
        ("[ipv4-addr:value = '999.0.113.7']", "ipv4-addr:value with a value that is none"),
        ("[ipv4-addr:value = '0.0.0.0/0']", "ipv4-addr:value with a network wider than /8"),
        ("[ipv6-addr:value ISSUBSET '::/0']", "ipv6-addr:value with a network wider than /16"),
        ("[domain-name:value ISSUBSET 'a.example']", "domain-name:value ISSUBSET"),
        ("", "syntax"),
        ("rule x { condition: true }", "syntax"),
        ("[ipv4-addr:value = '203.0.113.7'", "syntax"),
        ("[ipv4-addr:value = '203.0.113.7']]", "syntax"),
        ("[ipv4-addr:value = '203.0.113.7'] OR", "syntax"),
        ("[ipv4-addr:value = 203.0.113.7]", "syntax"),
        ("[]", "syntax"),
        ("(" * 200 + "[url:value = 'https://a.example/']" + ")" * 200, "syntax"),
        ("x" * (LONGEST_PATTERN + 1), "longer than a pattern"),
    ],
)
def test_what_is_not_read_is_named(text: str, problem: str) -> None:
    assert read(text) == ([], [problem])


MD5, SHA1, SHA512 = "a1" * 16, "a2" * 20, "a4" * 64
ADDRESS = "ipv4-addr:203.0.113.7"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        # As misp-stix writes them.
        ("[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '203.0.113.7']", ADDRESS),
        ("[network-traffic:src_ref.value = '203.0.113.7' AND network-traffic:src_ref.type = 'ipv4-addr']", ADDRESS),
        (
            "[network-traffic:dst_ref.type = 'ipv6-addr' AND network-traffic:dst_ref.value = '2001:db8::7']",
            "ipv6-addr:2001:db8::7",
        ),
        (
            "[network-traffic:dst_ref.type = 'domain-name' AND network-traffic:dst_ref.value = 'evil.example']",
            "domain-name:evil.example",
        ),
        (f"[file:name = 'a.exe' AND file:hashes.'SHA-256' = '{HASH}']", f"file:{HASH}"),
        (
            f"[file:hashes.MD5 = '{MD5}' AND file:hashes.SHA1 = '{SHA1}' AND file:hashes.SHA256 = '{HASH}' AND "
            "file:name = 'oui' AND file:size = '35' AND file:parent_directory_ref.path = '/x' AND "
            f"(file:content_ref.payload_bin = 'UEsD' AND file:content_ref.hashes.MD5 = '{MD5}')]",
            f"file:{HASH}",
        ),
        (f"[file:hashes.'SHA-512' = '{SHA512}' AND file:hashes.'SHA-256' = '{HASH}']", f"file:{SHA512}"),
        (
            "[url:value = 'https://evil.example/a' AND url:x_misp_domain = 'evil.example' AND url:x_misp_port = '443']",
            "url:https://evil.example/a",
        ),
        ("[hostname:value = 'a.evil.example']", "domain-name:a.evil.example"),
        ("[url:value = 'hxxp://evil[.]example/a']", "url:http://evil.example/a"),
        ("[ipv4-addr:value IN ('203.0.113.7')]", ADDRESS),
    ],
)
def test_an_and_that_is_one_look_at_one_value_is_read(text: str, named: str) -> None:
    """R2."""
    assert read(text) == ([named], [])


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("[ipv4-addr:value = '203.0.113.7' AND network-traffic:dst_port = 443]", [ADDRESS]),
        (
            "[(network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '203.0.113.7') AND "
            "network-traffic:dst_port = '443']",
            [ADDRESS],
        ),
        ("[network-traffic:dst_ref.type = 'ipv6-addr' AND network-traffic:dst_ref.value = '203.0.113.7']", [ADDRESS]),
        ("[network-traffic:src_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '203.0.113.7']", [ADDRESS]),
        (
            "[domain-name:value = 'evil.example' AND domain-name:resolves_to_refs[*].value = '203.0.113.7']",
            ["domain-name:evil.example"],
        ),
        (
            "[ipv4-addr:value = '203.0.113.7' AND domain-name:value = 'evil.example']",
            [ADDRESS, "domain-name:evil.example"],
        ),
        (f"[file:hashes.MD5 = '{MD5}' AND file:hashes.MD5 = '{'b1' * 16}']", [f"file:{MD5}", f"file:{'b1' * 16}"]),
        (f"[file:hashes.MD5 = '{MD5}' AND process:name = 'x']", [f"file:{MD5}"]),
        (f"[file:hashes.MD5 = '{MD5}' AND (file:name = 'x' OR file:name = 'y')]", [f"file:{MD5}"]),
        (f"[file:hashes.MD5 = '{MD5}' AND NOT file:name = 'x']", [f"file:{MD5}"]),
        ("[url:value = 'https://evil.example/a' AND domain-name:x_misp_a = 'b']", ["url:https://evil.example/a"]),
        (
            "[ipv4-addr:value = '203.0.113.7'] AND [url:value = 'https://evil.example/a']",
            [ADDRESS, "url:https://evil.example/a"],
        ),
        ("[ipv4-addr:value = '203.0.113.7'] WITHIN 5 SECONDS", [ADDRESS]),
        ("[ipv4-addr:value != '203.0.113.7']", [ADDRESS]),
    ],
)
def test_the_values_in_what_is_not_read_are_known(text: str, unread: list[str]) -> None:
    reading = read_pattern(text)
    assert reading.named == ()
    assert len(reading.problems) == 1
    assert [observable.key for observable in reading.unread] == unread


def test_what_can_be_read_of_an_or_is_read() -> None:
    assert read(
        "[process:name = 'x' OR ipv4-addr:value = '203.0.113.7' OR url:value LIKE 'a%'] OR "
        "[email-addr:value = 'a@b.example' AND file:size > 5] OR [domain-name:value = 'a.example']"
    ) == (["ipv4-addr:203.0.113.7", "domain-name:a.example"], ["process:name", "LIKE", "AND"])


def test_and_binds_tighter_than_or() -> None:
    text = "[ipv4-addr:value = '203.0.113.7' OR url:value = 'https://a.example/' AND file:size = 5]"
    assert read(text) == (["ipv4-addr:203.0.113.7"], ["AND"])


_PIECES = st.sampled_from(
    [
        *(
            "[",
            "]",
            "(",
            ")",
            "ipv4-addr:value",
            "file:hashes.'SHA-256'",
            "=",
            "!=",
            "IN",
            "LIKE",
            "ISSUBSET",
            "OR",
            "AND",
        ),
        *("NOT", "FOLLOWEDBY", "WITHIN", "5", "SECONDS", "'203.0.113.7'", "'\\", "'", "t'x'", ",", "EXISTS", "\u202e"),
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_PIECES, max_size=25).map(" ".join))
def test_no_text_breaks_the_reader_and_nothing_is_named_without_its_comparison(text: str) -> None:
    reading = read_pattern(text)
    assert reading.named or reading.problems
    for observable in reading.named:
        assert any(sign + f" '{observable.value}'" in text for sign in ("=", "ISSUBSET", "(", ","))


def test_a_long_pattern_is_read_in_one_pass() -> None:
    text = "[" + " OR ".join(f"ipv4-addr:value = '203.0.{i // 250}.{i % 250}'" for i in range(2000)) + "]"
    assert len(read_pattern(text).named) == 2000
