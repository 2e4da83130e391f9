"""Text as its author meant it: defanging undone, and the escapes of HTML, JSON and log4j lookups read.

Each pattern begins with one rare character or set of them, so ordinary text passes at memory speed, and every
repetition is bounded or possessive, so no input can stall it.
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

#: What a browser leaves out of a name, variation selectors among them.
_INVISIBLE = "\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
_WIDE_DOT = "\u2024\u3002\uff0e\uff61"
_WIDE = "\uff01-\uff5e\u2024"
_ODD = rf"[{_INVISIBLE}{_WIDE}]"
_ODD_CHARACTERS = re.compile(f"{_ODD}{_ODD}*")
_VIRAMA = "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca\u1039"
_ARABIC = "\u0620-\u064a\u066e-\u06d5\u0750-\u077f\u08a0-\u08b4"
#: Not a zero-width joiner that belongs to its word, in Indian scripts or between Arabic letters (Persian, Urdu).
#: Fast and permissive: names.py decides whether a name may be spelled like that.
_NO_LETTER = rf"(?<![{_VIRAMA}][\u200c\u200d])(?:(?<![{_ARABIC}]\u200c)|(?![{_ARABIC}]))"
_ODD_BUT_LETTERS = re.compile(f"{_ODD}{_NO_LETTER}(?:{_ODD}{_NO_LETTER})*")
#: Combining marks are no word characters.
_MANY_MARKS = re.compile(r"[^\w\x00-\x7f]{64}")
#: A full stop in China and Japan, and a dot of IDNA: between letters of a name it is the dot.
_IDEOGRAPHIC_DOT = re.compile(r"[\u3002\uff61](?=[0-9A-Za-z])")
_REFERENCE = "(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
_ENTITIES = re.compile(f"&{_REFERENCE}(?:&{_REFERENCE})*")
_ENTITY = re.compile(r"&[^;]+;")
# One backslash or, escaped once or twice more, up to four.
_ESCAPED = r"\\{0,3}(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|/)"
_ESCAPES = re.compile(rf"\\{_ESCAPED}(?:\\{_ESCAPED})*")
_ESCAPE = re.compile(r"\\+(?:u(....)|x(..)|/)")
_SLASHED = r"\\{0,3}(?:[.:@-]|[\[({]\.\\?[\])}])"
_ESCAPED_DOTS = re.compile(rf"\\{_SLASHED}(?:\\{_SLASHED})*")
_BACKSLASHES = re.compile(r"[\\\[\](){}]+")
#: Not \\b and \\f, which hardly any text has: evil\\bank.example would become another name.
_IN_AUTHORITY = re.compile(r"//[^\s/?#@]*\Z")
_ESCAPED_BLANK = re.compile(r"\\[nrt](?<!\\\\[nrt])")
#: Of log4j's lookups those that say what they give. A default begins with ":-"; a bare hyphen belongs to the name:
#: https://logging.apache.org/log4j/2.x/manual/configuration.html#property-substitution
_LOOKUP = re.compile(r"\$\{(?:(?:lower|upper):([^${}]{1,64})|[^${}]{0,64}?:-([^${}]{1,64}))\}")
#: JNDI's ldap:/evil.example/a is ldap://evil.example/a.
_JNDI = re.compile(r"(?<=[Jj][Nn][Dd][Ii]:)([A-Za-z]{2,12}):/(?=[A-Za-z0-9])")
_IN_BRACKETS = rf"""
    (?: (?P<dot>   [\[({{]{{0,3}}+\ ?(?:[.,{_WIDE_DOT}]|dot|DOT|Dot|d0t|[Pp]unto|[Pp]unkt|PUNTO|PUNKT)\ ?[\])}}>]{{1,4}}
                 | (?<=[0-9A-Za-z][\[({{])[\[({{]{{0,3}}+\.(?=[0-9A-Za-z]) )
      | (?P<at>    \ ?(?:@|at|AT|At|arroba)\ ?[\])}}>] )
      | (?P<inner> (?<=[\[({{])(?:https?|hxxps?|ftp|www|:/{{1,2}}|:\\{{1,4}}|/{{1,2}}|-)[\])}}]
                 | (?<=[0-9A-Za-z\])}}][\[({{])::?[\])}}] )
      | (?P<slash> (?<=[0-9A-Za-z]\[)/(?=[0-9A-Za-z])(?!\w{{1,10}}\]) ) )
"""
_BRACKETED = re.compile(rf"[\[({{<]{_IN_BRACKETS}", re.VERBOSE)
#: The same by the bracket that begins it: a pattern that begins with one character is searched ten times as fast as one
#: that begins with any of four, and most texts have no more than one of these.
_BRACKETED_BY = tuple(
    (bracket, re.compile(rf"{re.escape(bracket)}{_IN_BRACKETS}", re.VERBOSE)) for bracket in ("[", "(", "{", "<")
)
_IS_INVISIBLE = re.compile(f"[{_INVISIBLE}]").match
_WIDE_DOTS = {"\u2024": "."}
#: Escapes within escapes (&amp;#46;): more levels than this are no evidence but an attack on the reader.
_PASSES = 3

#: evil.]example. A pattern of its own, since the dot that it begins with is everywhere.
_HALF_DOT = re.compile(r"\.[\])}]{1,4}(?=[0-9A-Za-z])")
_HALF_COLON = re.compile(r"[\])}](?=://)")

_SCHEME = re.compile(
    r"[hHfFsSmMnNxX](?i:(?!(?<=h)ttps?://[^\s/])(?!(?<=f)tp://[^\s/])"
    r"(?:(?P<http>(?<=h)(?:[x*t]{2}p|xp|xtp|txp|tp)|(?<=m)eow|(?<=n)xxp|(?<=x)xxx)"
    r"|(?P<ftp>(?:(?<=f)|(?<=s)f)(?:[tx*][px*]|\*\*p|p)))(?P<s>s?)"
    r"\ ?(?::?/{2,3}\ ?(?=[0-9A-Za-z\[])(?!https?:)|:\\{1,4}|:/(?=[A-Za-z0-9])|__(?=[A-Za-z0-9])(?!h..ps?__)))"
)
#: The same schemes, where what follows is a proper ``://``.
_ODD_SCHEME = re.compile(
    r"(?:(?P<http>h[x*t0]{2}p|hxp|hxtp|htxp|htp|meow|nxxp|xxxx)|(?P<ftp>s?f[tx*][px*]|s?f\*\*p|s?fp))(?P<s>s?)$",
    re.IGNORECASE,
)
# Signs that something other than a proper "://" follows a scheme. They begin with literal characters, so are fast.
_ODD_SIGNS = (
    ("/", re.compile(r"//(?:[ /]|(?<=[psPS]//)|(?<= ://))")),
    ("/", re.compile(r":/(?!/)")),
    ("_", re.compile(r"__(?<=[psPS]__)")),
    ("\\", re.compile(r":\\")),
)
# Of two characters and more, a pattern is searched faster than a string.
_DOT_CLOSED, _DOT_ROUND, _DOT_CURLY = re.compile(r"\.\]"), re.compile(r"\.\)"), re.compile(r"\.\}")
_COLON_CLOSED = re.compile(r"://(?<=[\])}]://)")
_ODD_AT = re.compile("@(?:(?= )|(?<= @))")
_AT_WORD = re.compile("AT (?<= AT )")
_WORD_OPEN, _WORD_CLOSED = re.compile(r"\[dot"), re.compile(r"dot\]")
#: "evil dot com": only before a top-level domain that is hardly ever meant otherwise.
_PLAIN_TLD = "(?:com|net|org|info|biz|ru|cn|io|example)"
_DOTTED_LABELS = r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}+"
_DOT_WORD = re.compile(" {1,2}(?:dot|DOT|Dot) {1,2}")
#: All of it, however long: the name that "evil dot com dot br" begins with is somebody else's.
_SPOKEN = re.compile(rf"(?<![\w.-])[A-Za-z0-9@._-]{{1,128}}+(?: {{1,2}}(?:dot|DOT|Dot) {{1,2}}{_DOTTED_LABELS})++")
_SPOKEN_ON = re.compile(r"[\w-]|\s{1,2}(?:dot|DOT|Dot)\b")
#: ".com", and also ".com.br"
_SPOKEN_END = re.compile(rf"\.(?:{_PLAIN_TLD}|(?:com|net|org|co|gov|edu|ac)\.[a-z]{{2}})\Z", re.IGNORECASE)
_SPOKEN_AT = re.compile(
    r"(?<![\w.-])([A-Za-z0-9._%+-]{1,64}+) {1,2}(?:at|AT) {1,2}(?=[A-Za-z0-9-]{1,63} {1,2}(?:dot|DOT|Dot) )"
)
#: "user @ evil.example", "user AT evil.example"
_SPACED_AT = re.compile(
    r"(?<![\w.+-])([A-Za-z0-9._%+-]{1,64}+)(?: {1,2}@ {0,2}|@ {1,2}| {1,2}AT {1,2})"
    r"(?=(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2})"
)
_HALF_WORD = re.compile(
    rf"(?:[\[({{]dot|dot[\])}}])(?={_PLAIN_TLD}(?![0-9A-Za-z-]|[\[({{]dot|dot[\])}}]))", re.IGNORECASE
)

#: A mark that is no decoding step: only analysts defang, so what is defanged is meant as an indicator.
DEFANGED = "defanged"
Marks = tuple[tuple[int, str], ...]
Replace = Callable[[re.Match[str]], str | None]


class Plain(NamedTuple):
    """
    A text with its obfuscation undone.

    :param marks: offsets in ``text`` at which something was decoded, ascending, each with its step
    """

    text: str
    marks: Marks = ()

    def undone(self, start: int, end: int) -> tuple[str, ...]:
        """What was undone to read ``text[start:end]``: decoding steps, and ``DEFANGED``."""
        marks = self.marks
        first = bisect_left(marks, (start, ""))
        last = bisect_left(marks, (end, ""), first)
        if last - first < 2:
            return (marks[first][1],) if last > first else ()
        return tuple(dict.fromkeys([step for _, step in marks[first:last]]))


def refang(text: str) -> str:
    """Text with the usual defanging and escaping undone: ``hxxps[:]//a[.]example`` -> ``https://a.example``."""
    return _sub(_SCHEME, _scheme, None, plain(text).text, ())[0]


def scheme_at_end(text: str) -> tuple[str, str]:
    """The odd URL scheme with which a text ends: as written, and what is meant by it; empty where there is none."""
    match = _ODD_SCHEME.search(text)
    return (match[0], _meant(match, match[0])) if match else ("", "")


def plain(text: str) -> Plain:
    """
    A text with defanging and escapes undone, and where which escape was.

    An odd scheme before a proper ``://`` stays: :func:`scheme_at_end` reads it where a URL is.
    """
    marks: Marks = ()
    if not text.isascii():
        # "u" and a diaeresis are "ü": else a name would end there, and what is behind it is another's.
        text = _composed(text)
        has_joiner = "\u200c" in text or "\u200d" in text
        odd = _ODD_BUT_LETTERS if has_joiner else _ODD_CHARACTERS
        text, marks = _sub(odd, _ordinary, DEFANGED, text, marks)
        text, marks = _sub(_IDEOGRAPHIC_DOT, lambda _: ".", DEFANGED, text, marks)
    if "&" in text or "\\" in text or "$" in text:
        text, marks = _without_escapes(text, marks)
    # Searching one character is far faster than anything else, hence the first halves of these conditions.
    if bracketed := [pattern for bracket, pattern in _BRACKETED_BY if bracket in text and pattern.search(text)]:
        text, marks = _sub(bracketed[0] if len(bracketed) == 1 else _BRACKETED, _bare, DEFANGED, text, marks)
    if "]" in text or ")" in text or "}" in text:
        if _DOT_CLOSED.search(text) or _DOT_ROUND.search(text) or _DOT_CURLY.search(text):
            text, marks = _sub(_HALF_DOT, lambda _: ".", DEFANGED, text, marks)
        if _COLON_CLOSED.search(text):
            text, marks = _sub(_HALF_COLON, lambda _: "", DEFANGED, text, marks)
    if any(sign in text and pattern.search(text) for sign, pattern in _ODD_SIGNS):
        text, marks = _sub(_SCHEME, _scheme, DEFANGED, text, marks)
    if ("@" in text and _ODD_AT.search(text)) or _AT_WORD.search(text):
        text, marks = _sub(_SPACED_AT, lambda match: f"{match[1]}@", DEFANGED, text, marks)
    if " dot " in text or " DOT " in text or " Dot " in text:
        text, marks = _sub(_SPOKEN_AT, lambda match: f"{match[1]}@", DEFANGED, text, marks)
        text, marks = _sub(_SPOKEN, _spoken, DEFANGED, text, marks)
    if ("[" in text and _WORD_OPEN.search(text)) or ("]" in text and _WORD_CLOSED.search(text)):
        text, marks = _sub(_HALF_WORD, lambda _: ".", DEFANGED, text, marks)
    return Plain(text, marks)


def _without_escapes(text: str, marks: Marks) -> tuple[str, Marks]:
    for _ in range(_PASSES):
        before = text
        if "&" in text:
            text, marks = _sub(_ENTITIES, _entities, "html", text, marks)
        if "\\" in text:
            text, marks = _sub(_ESCAPES, _unescaped, "json", text, marks)
            text, marks = _sub(_ESCAPED_DOTS, _unslashed, DEFANGED, text, marks)
            text, marks = _sub(_ESCAPED_BLANK, lambda _: " ", None, text, marks)
        if "$" in text and "${" in text:
            text, marks = _sub(_LOOKUP, lambda match: match[1] or match[2], "lookup", text, marks)
            text, marks = _sub(_JNDI, lambda match: f"{match[1]}://", None, text, marks)
        # Only an escape can have hidden another one.
        if text == before:
            break
    return text, marks


def _composed(text: str) -> str:
    """
    As NFC composes it. Python sorts the combining marks behind a letter in time quadratic in their number, so what has
    very many, and is no word, is composed in parts.
    """
    parts, done = [], 0
    for match in _MANY_MARKS.finditer(text):
        parts.append(unicodedata.normalize("NFC", text[done : match.end()]))
        done = match.end()
    return "".join([*parts, unicodedata.normalize("NFC", text[done:])])


def _sub(pattern: re.Pattern[str], replace: Replace, step: str | None, text: str, marks: Marks) -> tuple[str, Marks]:
    """Like ``pattern.sub``, with the marks kept at their places and one more for each replacement."""
    pieces: list[str] = []
    moved: list[tuple[int, str]] = []
    copied = length = mark = 0
    for match in pattern.finditer(text):
        new = replace(match)
        if new is None:
            continue
        start, end = match.span()
        if (
            end - start > 2
            and new in _JOINTS
            and text[end : end + 1] == " "
            and copied < start
            and text[start - 1] == " "
        ):
            start, end = start - 1, end + 1  # "a [.] example"
        while mark < len(marks) and marks[mark][0] < end:
            moved.append((length + max(0, min(marks[mark][0], start) - copied), marks[mark][1]))
            mark += 1
        pieces.append(text[copied:start])
        length += start - copied
        if step:
            moved.append((length, step))
        pieces.append(new)
        length += len(new)
        copied = end
    if not pieces:
        return text, marks
    moved += [(place - copied + length, step) for place, step in marks[mark:]]
    pieces.append(text[copied:])
    return "".join(pieces), tuple(moved)


_JOINTS = frozenset(".@")


def _ordinary(match: re.Match[str]) -> str:
    return "".join(map(_ordinary_character, match[0]))


@lru_cache(maxsize=512)
def _ordinary_character(odd: str) -> str:
    return "" if _IS_INVISIBLE(odd) else _WIDE_DOTS.get(odd) or chr(ord(odd) - 0xFEE0)


@lru_cache(maxsize=4096)
def _entity(written: str) -> str:
    return html.unescape(written)


def _entities(match: re.Match[str]) -> str:
    return "".join(map(_entity, _ENTITY.findall(match[0])))


def _unescaped(match: re.Match[str]) -> str:
    return "".join(_character(four or two) for four, two in _ESCAPE.findall(match[0]))


@lru_cache(maxsize=4096)
def _character(digits: str) -> str:
    code = int(digits, 16) if digits else ord("/")
    return " " if 0xD800 <= code < 0xE000 else chr(code)


def _unslashed(match: re.Match[str]) -> str | None:
    # https://evil.example\\@good.example/ is a page of evil.example, since a browser takes the backslash for a slash.
    if "@" in match[0] and _IN_AUTHORITY.search(match.string, max(0, match.start() - 128), match.start()):
        return None
    return _BACKSLASHES.sub("", match[0])


def _spoken(match: re.Match[str]) -> str | None:
    written = _DOT_WORD.sub(".", match[0])
    goes_on = _SPOKEN_ON.match(match.string, match.end())
    return written if _SPOKEN_END.search(written) and not goes_on else None


def _bare(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind == "dot":
        return "."
    if kind == "at":
        return "@"
    return match[0].strip("[](){}")


def _scheme(match: re.Match[str]) -> str | None:
    if match.string[match.start() - 1 : match.start()].isalnum():
        return None
    return _meant(match, match[0]) + "://"


def _meant(match: re.Match[str], written: str) -> str:
    name = "http" if match["http"] else "sftp" if written[0] in "sS" else "ftp"
    return name + match["s"].lower()
