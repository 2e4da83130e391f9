"""STIX patterns, as far as one look at one value can answer them.

Read are comparisons ``[type:property = 'value']`` (also ``ISSUBSET`` of a network, and ``IN`` a list) that are joined
by ``OR``, inside of the brackets or between them: any one of them is then enough, so each stands for itself. Of ``AND``
inside of the brackets is read what is one look at one value all the same (see ``_one_value``). Whatever needs more than
one value, an order, a time or a count is not read but named: any other ``AND``, ``FOLLOWEDBY``, ``NOT``, ``LIKE``,
``WITHIN``… The values in such a part are kept apart: nothing is known of them, also not that they are clean.

STIX 2.0 has the same grammar.
https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html#_e8slinrhxcc9
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from include.soar.extract.refang import refang
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


class _Term(NamedTuple):
    """One comparison by ``=``, or what stands for one that only narrows."""

    path: str
    literal: str
    observable: Observable | None


class _Parts(NamedTuple):
    """
    :param named: what a part of a pattern names
    :param problems: what of it is not read
    :param unread: the values in what is not read
    :param terms: the comparisons that all must be true; None where the part is more than that
    """

    named: list[Observable]
    problems: list[str]
    unread: list[Observable]
    terms: list[_Term] | None = None

    def beside(self, other: _Parts) -> _Parts:
        """Either of the two."""
        return _Parts(self.named + other.named, self.problems + other.problems, self.unread + other.unread)


def _address_or_name(text: str) -> Observable | None:
    return parse_address(text) or parse_domain(text)


#: Object paths that name an observable, without the quotes of ``hashes.'SHA-256'``.
_PATHS: dict[str, Callable[[str], Observable | None]] = {
    "ipv4-addr:value": lambda text: parse_network(text) or parse_address(text),
    "ipv6-addr:value": lambda text: parse_network(text) or parse_address(text),
    "network-traffic:src_ref.value": _address_or_name,
    "network-traffic:dst_ref.value": _address_or_name,
    "domain-name:value": parse_domain,
    # OpenCTI's own type for a name below a domain.
    "hostname:value": parse_domain,
    "url:value": parse_url,
    "email-addr:value": parse_email,
    "email-message:from_ref.value": parse_email,
    "email-message:sender_ref.value": parse_email,
}
_HASH_PATH = re.compile(r"(?:file|artifact):hashes\.(?:MD5|SHA-?1|SHA-?256|SHA-?512)", re.I)
#: A reference whose type stands beside its value only repeats what the value's form says.
_REF_TYPES = {
    "ipv4-addr": ObservableType.IPV4,
    "ipv6-addr": ObservableType.IPV6,
    "domain-name": ObservableType.DOMAIN,
}
_ITS_TYPE = re.compile(r"(network-traffic:(?:src|dst)_ref)\.type")


@dataclass(frozen=True)
class Reading:
    """
    :param named: the values any of which the pattern matches; a network stands for all of its addresses
    :param problems: what of it is not read, by name; a pattern may have both
    :param unread: the values in what is not read: that the pattern does not name them says nothing
    """

    named: tuple[Observable, ...]
    problems: tuple[str, ...]
    unread: tuple[Observable, ...] = ()


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
        named, problems, unread, _ = self._observations(0)
        if self._at < len(self._tokens):
            raise _NotGrammar
        only_unread = dict.fromkeys(one for one in unread if one not in named)
        return Reading(tuple(dict.fromkeys(named)), tuple(dict.fromkeys(problems)), tuple(only_unread))

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
        return _unread(parts, *qualifiers) if qualifiers else parts._replace(terms=None)

    # --- inside of the brackets: OR, AND

    def _comparisons(self, depth: int) -> _Parts:
        return self._any(lambda: self._narrowed(depth))

    def _narrowed(self, depth: int) -> _Parts:
        """Comparisons that must all be true of the same thing."""
        parts = [self._comparison(depth)]
        while self._is_next("AND"):
            parts.append(self._comparison(depth))
        if len(parts) == 1:
            return parts[0]
        terms = [term for part in parts if part.terms is not None for term in part.terms]
        whole = all(part.terms is not None for part in parts)
        value = _one_value(terms) if whole else None
        everything = [one for part in parts for one in (*part.named, *part.unread)]
        if value is None:
            return _Parts([], ["AND"], everything, terms if whole else None)
        return _Parts([value], [], everything, terms)

    def _comparison(self, depth: int) -> _Parts:
        if depth > DEEPEST:
            raise _NotGrammar
        if self._is_next("("):
            parts = self._comparisons(depth + 1)
            self._next(")")
            return parts
        if self._is_next("EXISTS"):
            self._next("path")
            return _Parts([], ["EXISTS"], [])
        negated = self._is_next("NOT")
        path = self._next("path").replace("'", "")
        negated = self._is_next("NOT") or negated
        operator = self._next(*_OPERATORS).upper()
        literals = self._literals() if operator == "IN" else [self._next("text", "constant")]
        if operator in ("==", "IN"):
            operator = "="
        found = self._value(path, operator, literals[0])
        for literal in literals[1:]:
            found = found.beside(self._value(path, operator, literal))
        return _unread(found, "NOT") if negated or operator == "!=" else found

    def _literals(self) -> list[str]:
        self._next("(")
        literals = [self._next("text", "constant")]
        while self._is_next(","):
            literals.append(self._next("text", "constant"))
        self._next(")")
        return literals

    @staticmethod
    def _value(path: str, operator: str, literal: str) -> _Parts:
        parse = parse_hash if _HASH_PATH.fullmatch(path) else _PATHS.get(path)
        # A blank at an end is a slip that real bundles have.
        text = re.sub(r"\\(.)", r"\1", literal[1:-1], flags=re.S).strip() if literal.startswith("'") else ""
        observable = (parse(text) or parse(refang(text))) if parse and text else None
        term = [_Term(path, text or literal, observable)] if operator == "=" else None
        problem = ""
        if operator not in ("=", "ISSUBSET", "!="):
            problem = operator
        elif parse is None or not literal.startswith("'"):
            problem = path
        elif operator == "ISSUBSET" and not path.startswith(("ipv4-addr:", "ipv6-addr:")):
            problem = f"{path} ISSUBSET"
        elif observable is None:
            problem = f"{path} with a value that is none"
        elif observable.type is ObservableType.CIDR:
            family = ObservableType.IPV6 if ":" in observable.value else ObservableType.IPV4
            if int(observable.value.rpartition("/")[2]) < SHORTEST_PREFIX[family]:
                # It would put everything in doubt.
                return _Parts([], [f"{path} with a network wider than /{SHORTEST_PREFIX[family]}"], [], term)
        if observable is None or problem:
            return _Parts([], [problem], [observable] if observable else [], term)
        return _Parts([observable], [], [], term)

    # --- how parts bind

    def _any(self, part: Callable[[], _Parts]) -> _Parts:
        found = part()
        while self._is_next("OR"):
            found = found.beside(part())
        return found

    def _joined(self, word: str, part: Callable[[], _Parts]) -> _Parts:
        """One part is itself; several that must all be true name nothing."""
        found = part()
        if not self._is_next(word):
            return found
        parts = [found, part()]
        while self._is_next(word):
            parts.append(part())
        return _Parts([], [word], [one for each in parts for one in (*each.named, *each.unread)])


def _unread(parts: _Parts, *problems: str) -> _Parts:
    """What a part says is not read, and nothing is known of its values."""
    return _Parts([], list(problems), [*parts.named, *parts.unread])


def _one_value(terms: list[_Term]) -> Observable | None:
    """
    The one value that comparisons joined by ``AND`` come down to, as misp-stix and others write them; else None.

    * A file's hash names it, whatever name, size or weaker hash stands beside it.
    * ``X_ref.type = 'ipv4-addr'`` beside ``X_ref.value`` only repeats what the value's form says.
    * So do a producer's own properties (``x_misp_…``) of the same object.

    An address and a port, or a name and what it resolved to, are two things.
    """
    if hashes := [term.observable for term in terms if term.observable and term.observable.type is ObservableType.FILE]:
        return _strongest(hashes) if all(term.path.startswith(("file:", "artifact:")) for term in terms) else None
    values = {(term.path, term.observable) for term in terms if term.observable}
    if len(values) != 1:
        return None
    ((path, value),) = values
    return value if value and all(term.observable or _only_repeats(term, path, value) for term in terms) else None


def _strongest(hashes: list[Observable]) -> Observable | None:
    """None where the file would have to have two hashes of one kind."""
    longest = max(len(one.value) for one in hashes)
    distinct = set(hashes)
    if len({len(one.value) for one in distinct}) != len(distinct):
        return None
    return next(one for one in hashes if len(one.value) == longest)


def _only_repeats(term: _Term, path: str, value: Observable) -> bool:
    kind, _, member = path.partition(":")
    if reference := _ITS_TYPE.fullmatch(term.path):
        return path == f"{reference[1]}.value" and _REF_TYPES.get(term.literal) is value.type
    its_kind, _, its_member = term.path.partition(":")
    return its_kind == kind and its_member.startswith("x_") and not member.startswith("x_")
