"""STIX patterns, as far as one look at one value can answer them.

Read are comparisons ``[type:property = 'value']`` (and ``ISSUBSET`` of a network) that are joined by ``OR``, inside of
the brackets or between them: any one of them is then enough, so each stands for itself. Whatever needs more than one
value, an order, a time or a count is not read but named: ``AND``, ``FOLLOWEDBY``, ``NOT``, ``LIKE``, ``WITHIN``…

STIX 2.0 has the same grammar.
https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html#_e8slinrhxcc9
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from include.soar.extract.values import parse_address, parse_domain, parse_email, parse_hash, parse_network, parse_url
from include.soar.model import Observable, ObservableType

#: A longer pattern is a program, or a slip.
LONGEST_PATTERN = 100_000
#: Brackets and parentheses inside of one another.
DEEPEST = 20
#: A network wider than this is a slip of the author: 0.0.0.0/0 would name everybody.
SHORTEST_PREFIX = {ObservableType.IPV4: 8, ObservableType.IPV6: 16}

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^'\\]|\\.)*')
    | (?P<constant>[hbt]'[^']*'|[-+]?[0-9]+(?:\.[0-9]+)?|true\b|false\b)
    | (?P<path>[a-zA-Z][a-zA-Z0-9-]*:(?:[a-zA-Z0-9_-]+|'[^'\\]*')
        (?:\.(?:[a-zA-Z0-9_-]+|'[^'\\]*')|\[(?:\*|-?[0-9]+)\])*)
    | (?P<word>[A-Za-z]+)
    | (?P<sign>[\[\]()]|[<>]=?|!=|==?|,)
    )""",
    re.X | re.S,
)
_QUALIFIERS = ("WITHIN", "REPEATS", "START")
_OPERATORS = ("=", "==", "!=", "<", ">", "<=", ">=", "IN", "LIKE", "MATCHES", "ISSUBSET", "ISSUPERSET")

#: What a part of a pattern names, and what of it is not read.
_Parts = tuple[list[Observable], list[str]]


def _address_or_name(text: str) -> Observable | None:
    return parse_address(text) or parse_domain(text)


#: Object paths that name an observable, without the quotes of ``hashes.'SHA-256'``.
_PATHS: dict[str, Callable[[str], Observable | None]] = {
    "ipv4-addr:value": lambda text: parse_network(text) or parse_address(text),
    "ipv6-addr:value": lambda text: parse_network(text) or parse_address(text),
    "network-traffic:src_ref.value": _address_or_name,
    "network-traffic:dst_ref.value": _address_or_name,
    "domain-name:value": parse_domain,
    "url:value": parse_url,
    "email-addr:value": parse_email,
    "email-message:from_ref.value": parse_email,
    "email-message:sender_ref.value": parse_email,
}
_HASH_PATH = re.compile(r"(?:file|artifact):hashes\.(?:MD5|SHA-?1|SHA-?256|SHA-?512)", re.I)


@dataclass(frozen=True)
class Reading:
    """
    :param named: the values any of which the pattern matches; a network stands for all of its addresses
    :param problems: what of it is not read, by name; a pattern may have both
    """

    named: tuple[Observable, ...]
    problems: tuple[str, ...]


class _NotGrammar(ValueError):
    """The text is not a STIX pattern."""


def read_pattern(text: str) -> Reading:
    """Never raises: what is no pattern at all has the problem ``syntax``."""
    if len(text) > LONGEST_PATTERN:
        return Reading((), ("longer than a pattern",))
    try:
        return _Reader(text).read()
    except _NotGrammar:
        return Reading((), ("syntax",))


class _Reader:
    """
    One pass from left to right. Each level gives what it named and what it could not read; a level that binds its
    parts together with anything but ``OR`` names nothing.
    """

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        self._at = 0
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise _NotGrammar
            self._tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            position = match.end()

    def read(self) -> Reading:
        named, problems = self._observations(0)
        if self._at < len(self._tokens):
            raise _NotGrammar
        return Reading(tuple(dict.fromkeys(named)), tuple(dict.fromkeys(problems)))

    # --- tokens

    def _peek(self) -> str:
        """The next sign, or the next word in capitals; the kind of anything else."""
        if self._at >= len(self._tokens):
            return ""
        kind, text = self._tokens[self._at]
        return text.upper() if kind in ("sign", "word") else kind

    def _next(self, *wanted: str) -> str:
        if self._peek() not in wanted:
            raise _NotGrammar
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _is_next(self, *wanted: str) -> bool:
        if self._peek() in wanted:
            self._at += 1
            return True
        return False

    # --- between the brackets: FOLLOWEDBY, OR, AND, from loose to tight

    def _observations(self, depth: int) -> _Parts:
        return self._joined("FOLLOWEDBY", lambda: self._any(lambda: self._all(depth)))

    def _all(self, depth: int) -> _Parts:
        return self._joined("AND", lambda: self._observation(depth))

    def _observation(self, depth: int) -> _Parts:
        if depth > DEEPEST:
            raise _NotGrammar
        if self._is_next("("):
            parts = self._observations(depth + 1)
            self._next(")")
        else:
            self._next("[")
            parts = self._comparisons(depth + 1)
            self._next("]")
        qualifiers = []
        while self._peek() in _QUALIFIERS:
            qualifiers.append(self._next(*_QUALIFIERS).upper())
            while self._peek() in ("constant", "text", "SECONDS", "TIMES", "STOP"):
                self._at += 1
        return ([], qualifiers) if qualifiers else parts

    # --- inside of the brackets: OR, AND

    def _comparisons(self, depth: int) -> _Parts:
        return self._any(lambda: self._joined("AND", lambda: self._comparison(depth)))

    def _comparison(self, depth: int) -> _Parts:
        if depth > DEEPEST:
            raise _NotGrammar
        if self._is_next("("):
            parts = self._comparisons(depth + 1)
            self._next(")")
            return parts
        if self._is_next("EXISTS"):
            self._next("path")
            return [], ["EXISTS"]
        negated = self._is_next("NOT")
        path = self._next("path").replace("'", "")
        negated = self._is_next("NOT") or negated
        operator = self._next(*_OPERATORS).upper()
        literal = self._literals() if operator == "IN" else self._next("text", "constant")
        if negated or operator == "!=":
            return [], ["NOT"]
        return self._value(path, operator.replace("==", "="), literal)

    def _literals(self) -> str:
        self._next("(")
        self._next("text", "constant")
        while self._is_next(","):
            self._next("text", "constant")
        self._next(")")
        return ""

    @staticmethod
    def _value(path: str, operator: str, literal: str) -> _Parts:
        if operator not in ("=", "ISSUBSET"):
            return [], [operator]
        parse = parse_hash if _HASH_PATH.fullmatch(path) else _PATHS.get(path)
        if parse is None or not literal.startswith("'"):
            return [], [path]
        if operator == "ISSUBSET" and not path.startswith(("ipv4-addr:", "ipv6-addr:")):
            return [], [f"{path} ISSUBSET"]
        # A blank at an end is a slip that real bundles have.
        observable = parse(re.sub(r"\\(.)", r"\1", literal[1:-1], flags=re.S).strip())
        if observable is None:
            return [], [f"{path} with a value that is none"]
        if observable.type is ObservableType.CIDR:
            family = ObservableType.IPV6 if ":" in observable.value else ObservableType.IPV4
            if int(observable.value.rpartition("/")[2]) < SHORTEST_PREFIX[family]:
                return [], [f"{path} with a network wider than /{SHORTEST_PREFIX[family]}"]
        return [observable], []

    # --- how parts bind

    def _any(self, part: Callable[[], _Parts]) -> _Parts:
        named, problems = part()
        while self._is_next("OR"):
            more, other = part()
            named, problems = named + more, problems + other
        return named, problems

    def _joined(self, word: str, part: Callable[[], _Parts]) -> _Parts:
        """One part is itself; several that must all be true name nothing."""
        only = part()
        if not self._is_next(word):
            return only
        part()
        while self._is_next(word):
            part()
        return [], [word]
