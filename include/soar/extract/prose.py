"""What prose and code do to names and numbers: ``setup.py`` is a file, ``os.path`` code, ``Chrome/120.0.0.0`` no host.

Only a bare name in the middle of a text is doubted: never what was defanged, the host of a URL, or a field that holds
nothing else.
"""

from __future__ import annotations

import re
from functools import lru_cache

from include.soar.extract.values import read_domain, word_set

_HYPHEN_OR_DIGIT = re.compile(r"[-0-9]")
_AROUND_WORDS = " :=/.\"'(>[{\\*`"
_LAST_WORD = re.compile("[A-Za-z§\u00aa-\uffff]+$")
#: Words before a number of four parts that is no address: of versions, of programs, of sections, in some languages.
_VERSIONED = word_set(
    """
    ver rev v firmware driver update patch kernel section sections chapter figure
    table paragraph clause oid § openssl openssh apache nginx php java jquery windows chrome chromium firefox
    safari edge edg opera android linux python curl wordpress tomcat acrobat reader flash office exchange player
    extension annex appendix article abschnitt kapitel ziffer absatz artikel anhang abbildung tabelle chapitre
    paragraphe capítulo sección seção capitolo sezione hoofdstuk rozdział раздел глава пункт
    """
)
#: How such a word may end: appVersion, FileVersion, прошивка версии, 软件版本.
_VERSION_ENDINGS = (
    *("version", "versions", "build", "release", "revision", "versión", "versione", "versão", "versie", "wersja"),
    *("версия", "версии", "版本", "バージョン", "버전"),
)
#: What may follow it: buildNumber, versionCode.
_OF_A_VERSION = ("number", "num", "no", "nr", "code", "string", "name", "info", "id")
#: How a word in camel case may end: appVer.
_HUMPS = ("Ver", "Rev", "Fw")

#: Top-level domains that in prose are far more often the ending of a file than that of a host.
_FILE_LIKE_TLDS = word_set("zip mov py sh pl rs ps md so java cab")
_NEVER_A_HOST = word_set("py java zip md")
#: First labels of code rather than of names: ``this.name``, ``os.path``, ``window.open``.
_CODE = word_set(
    """
    this self window document console request response req res event math json object array string system std os
    sys np pd e el obj item node data ctx config log logger options params args module exports process path fs app
    router operator datetime
    """
)
#: What records and elements of a page are called: ``user.info``, ``customer.id``. Names of two labels only, for
#: order.evil.shop is a host.
_NOUNS = word_set(
    """
    address account author body btn button card cart category child client col comment company contact container
    content customer div email employee entity entry error event field footer form group header html icon img input
    invoice label li link main member message meta model nav order orders owner page parent payment person post product
    products profile record role root row session settings span state store table task td team th token tr transaction
    ul user users
    """
)
#: Sites that are known by one or two letters.
_SHORT_SITES = word_set(
    "t.me t.co g.co t.ly s.id x.co v.gd is.gd ow.ly db.tt fb.me wa.me vk.cc qr.ae qq.im ix.io 0x.st"
)
#: {{ order.id }}, ${cart.total}, #{user.info}, <%= order.id %>
_TEMPLATE = re.compile(r"(?:\{\{|\{%|[$#]\{|<%)[\w\s.,|()+*/=-]{0,64}\Z")
#: query { customer.id total.net }, but not the shell's { curl evil.example; }
_BRACES = re.compile(
    r"\{\s+(?:(?!(?:curl|wget|nc|ncat|ping|dig|host|nslookup|fetch|ssh|telnet)\s)[A-Za-z_]\w{0,24}(?P<dotted>\.\w{1,24})?[\s,]+){0,6}\Z"
)
#: SELECT u.id, u.email, o.total FROM …: a column, not a name, if no quote is near.
_SQL_WORDS = ("SELECT", "select", "WHERE", "where", "JOIN", "join", "SET", " ON ", " BY ", " by ", "HAVING", "having")
_SQL = re.compile(
    r"(?:\b(?:SELECT|WHERE|HAVING|ORDER BY|GROUP BY|JOIN|ON|SET)\s|\b(?:select|where|having|order by|group by|join)\s)"
    r"[\w\s.,=<>!*+()-]{0,120}\Z"
)
#: Top-level domains that are far more often an attribute (``result.name``) than the end of a name, unless that has a
#: hyphen, a digit or a www.
_ATTRIBUTE_TLDS = word_set(
    """
    abc bar black blue build call case cat codes construction data day events foo green int map name new open prod
    properties read red select security storage style target
    """
)
_ATTRIBUTES_OF_NOUNS = _ATTRIBUTE_TLDS | word_set(
    """
    id info email total link live page host phone company contact group team run post sale show star support tax vote
    author photo photos review reviews report social video credit gift is in to no as city country
    """
)
#: Java and its kin name packages by reversed domains: ``com.example.foo.Bar``, ``org.apache.commons.io``.
_REVERSED = word_set(
    """
    com org net edu gov io java javax jakarta sun android androidx kotlin scala de me
    """
)
#: Top-level domains under which a bare name is hardly ever anything but a name.
_PLAIN_TLDS = word_set(
    """
    com net org edu gov mil info biz example ru cn de uk fr nl br jp kr ua eu top xyz online onion
    """
)
_BEFORE_A_MEMBER = frozenset("$])?")
_NUMBERS = re.compile(r"[0-9]{0,4}::[0-9]{0,3}|[0-9]{0,4}::?-?[0-9]{0,4}::?[0-9]{0,3}")
_SECRET_KEY = re.compile(
    r"(?:pass(?:w(?:or)?d|wort|phrase|code)?|pwd|pw|secret|token|credentials?|contraseña|senha|api_?key)\d?"
    r"[\"'\\\]]{0,3}\s?[:=>]{1,2}\s?[\"'\\]{0,3}\Z|--?pass(?:word|wd)?\s\Z",
    re.IGNORECASE,
)
#: user:Pa! before ss@host.example
_SIGNS_OF_SECRETS = frozenset("!#$&*?~^")
_SECRET_BEGUN = re.compile(r"[^\s:/\"'<>()\[\]{},;|]+")
_BEFORE_EQUALS = re.compile(r"(?<![\w.+=-])[\w.+-]{1,48}=(?:[\w.+-]{1,48}=){0,4}\Z")
_VERP = re.compile(r"=.*=|[+-].*[0-9+-]")
_PLATFORMS = frozenset({"ASP.NET", "VB.NET", "ADO.NET", "ML.NET"})


def is_version(text: str, start: int, written: str) -> bool:
    """Whether a number of four parts is the version of a program, or that of a section, rather than an address."""
    before = text[start - 16 if start > 16 else 0 : start].rstrip(_AROUND_WORDS)
    if not before or before[-1].isdecimal():
        return False
    kind = _kind_of_word(before.rpartition(" ")[2])
    if kind == _OTHER:
        return written.endswith(".0") and text[start - 1] == "/"
    return kind == _VERSION or (kind == _NUMBER and _counts_versions(text, start))


#: What a word before a number of four parts makes of it.
_NO_WORD, _OTHER, _NUMBER, _VERSION = range(4)


@lru_cache(maxsize=4096)
def _kind_of_word(word: str) -> int:
    if not word.isalpha():
        match = _LAST_WORD.search(word)
        if match is None:
            return _NO_WORD
        word = match[0]
    lower = word.lower()
    if lower in _VERSIONED or lower.endswith(_VERSION_ENDINGS) or (word.endswith(_HUMPS) and word not in _HUMPS):
        return _VERSION
    return _NUMBER if lower.endswith(_OF_A_VERSION) else _OTHER


def forget_words() -> None:
    _kind_of_word.cache_clear()


def _counts_versions(text: str, start: int) -> bool:
    """buildNumber, version_number"""
    before = text[start - 40 if start > 40 else 0 : start].rstrip(_AROUND_WORDS).lower()
    ending = next((ending for ending in _OF_A_VERSION if before.endswith(ending)), "")
    return bool(ending) and before.removesuffix(ending).rstrip(" _-").endswith(_VERSION_ENDINGS)


def is_slice(text: str, start: int, end: int) -> bool:
    """Whether what reads as an IPv6 address is a slice of code: ``x[1::2]``. ``mx.example[2001:db8::25]`` is none."""
    if text[end : end + 1] != "]" or start < 2 or _NUMBERS.fullmatch(text, start, end) is None:
        return False
    # A digit: the place is one within a longer slice, for "x[1::2], y[::2]".
    before, sign = text[start - 2], text[start - 1]
    return sign.isdigit() or (sign == "[" and (before.isalnum() or before in "_])\"'"))


def is_secret(text: str, start: int) -> bool:
    """
    Whether what stands at ``start`` and reads as an e-mail address is a password or the end of one:
    ``password=P@ssw0rd.example``, ``user:Pa!ss@host.example``.
    """
    if _SECRET_KEY.search(text, max(0, start - 48), start):
        return True
    if text[start - 1] not in _SIGNS_OF_SECRETS:
        return False
    colon = text.rfind(":", max(0, start - 48), start)
    return colon > 0 and text[colon - 1].isalnum() and _SECRET_BEGUN.fullmatch(text, colon + 1, start) is not None


def verp_prefix(text: str, start: int, value: str) -> str:
    """
    What of a mailbox stands before ``start``, behind which ``=`` ended it: ``bounce-1=victim=`` of a list that writes
    whom it wrote to into the sender (VERP, SRS); empty where a field of a form ends there (``email=a@b.example``).
    """
    match = _BEFORE_EQUALS.search(text, max(0, start - 65), start)
    if match is None:
        return ""
    is_verp = _VERP.search(match[0]) is not None and read_domain(value.partition("@")[0]) is not None
    return match[0] if is_verp or match[0].startswith(("SRS0=", "SRS1=", "SRS0+", "SRS1+", "SRS0-", "SRS1-")) else ""


def is_name(text: str, start: int, written: str) -> bool:
    """Whether what could be a domain is one, and no file, package, piece of code, or end of a sentence."""
    end = start + len(written)
    first, _, rest = written.partition(".")
    last = rest.rpartition(".")[2]
    tld, reversed_name = last.lower(), "." in rest and first.lower() in _REVERSED
    before = text[start - 1] if start else ""
    if before == "$" or text[start - 2 : start] == "::" or (before == "\\" and text[start - 2 : start] != "\\\\"):
        return False
    if _is_code(text, start, end, written, tld):
        return False
    if tld in _PLAIN_TLDS and not (tld == "info" and first.lower() in _CODE):
        return written not in _PLATFORMS and not (reversed_name and last != tld)
    if tld in _ATTRIBUTE_TLDS and first != "www" and not _HYPHEN_OR_DIGIT.search(written):
        return False
    if tld == "app" and first[0].isupper():  # Safari.app
        return False
    if tld in _FILE_LIKE_TLDS and ("." not in rest or tld in _NEVER_A_HOST):
        return False
    if reversed_name or first.lower() in _CODE or text[end : end + 1] == "(":
        return False
    # "the end.It was" is two sentences, "Dr.No" is a person; "EVIL.IT" and "evil.it" are names.
    return not (last[0].isupper() and last[1:].islower())


def _is_code(text: str, start: int, end: int, written: str, tld: str) -> bool:
    """Whether a bare name is a column, a variable or a path in SQL, GraphQL, a template or JSONPath."""
    if start and text[start - 1] == "." and text[start - 2 : start - 1] in _BEFORE_A_MEMBER:  # $.user.info
        return True
    near = start - 72 if start > 72 else 0
    opened = max(text.rfind("{", near, start), text.rfind("<%", near, start))
    has_braces = opened >= 0 and text.find('"', opened, start) < 0  # in JSON there is a quote between
    first = written.partition(".")[0].lower()
    is_plain = tld in _PLAIN_TLDS and tld != "info"
    if is_plain and len(first) > 2 and not has_braces and first not in _NOUNS:
        return False
    if _HYPHEN_OR_DIGIT.search(written) or first == "www":
        return False
    window = text[start - 160 if start > 160 else 0 : start]
    if has_braces and (_TEMPLATE.search(window) or _is_selected(window, written, tld)):
        return True
    if written.count(".") == 1 and not is_plain:
        if len(first) < 3:
            # A path behind it, and it is a site: t.me/somebody
            return written.lower() not in _SHORT_SITES and text[end : end + 1] != "/"
        if tld in _ATTRIBUTES_OF_NOUNS and first in _NOUNS:
            return True
    return (not is_plain or len(first) < 3 or first in _NOUNS) and _is_column(window, tld)


def _is_selected(window: str, written: str, tld: str) -> bool:
    """Whether it is a field within braces, in GraphQL."""
    braces = _BRACES.search(window) if written.count(".") == 1 else None
    return braces is not None and (tld not in _PLAIN_TLDS or bool(braces["dotted"]))


def _is_column(window: str, tld: str) -> bool:
    if tld == "example" or not any(word in window for word in _SQL_WORDS):
        return False
    return _SQL.search(window) is not None
