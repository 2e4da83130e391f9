"""Where the URLs of a text are, and what each of them names. Pure, and linear in the text.

``//`` begins the authority of a URL whatever its scheme is (RFC 3986 3.2): ``gopher://``, ``redis://`` and ``iiop://``
name a host as ``https://`` does. Of a scheme that is not in ``URL_SCHEMES`` the host alone is taken. What stands before
an @ there is a name and a password (3.2.1), of which nothing is ever an indicator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from include.soar.extract.refang import scheme_at_end
from include.soar.extract.values import DOMAIN, LONGEST_URL, URL_SCHEMES, read_authority, url_of, word_set
from include.soar.model import ObservableType


class FoundUrl(NamedTuple):
    """
    A URL in a text, or a part of it that must not be read as anything.

    :param end: where its path and query end; they begin at ``tail_at``
    :param url: canonical; empty where only the host is certain
    :param host: canonical, with its ``kind``; empty where nothing is certain
    :param doubted: the scheme is none that we know, so the host may be a package or a file
    """

    start: int
    tail_at: int
    end: int
    url: str
    kind: ObservableType
    host: str
    doubted: bool = False


_QUOTES = "\u2018-\u201f\u00ab\u00bb\u3001\u3002\u300a-\u3011\uff01\uff08\uff09\uff0c\uff1a\uff1b"
_AUTHORITY = re.compile(rf"[^\s/?#<>\"'`\x00-\x20\\^|{{}}(),;{_QUOTES}]{{1,600}}+")
_TAIL_END = re.compile(rf"[\s<>\"'`\x00-\x20\\^|{{}}{_QUOTES}]")
#: What the next cell of a row begins with, if it is none of the URL: a word of a header, a hash, an address, a date, an
#: e-mail address, a quote, or nothing.
_CELL_TEXT = (
    r"(?:[\"',]|(?P<word>url|uri|domain|hostname|host|ip|ipv4|ipv6|address|md5|sha-?1|sha-?256|sha-?512|hash|email|cve|asn"
    r"|file|online|offline|malware_download|phishing|malware|c2)(?=[\s,;]|\Z)"
    r"|[0-9A-Fa-f]{32,128}(?![\w.])|[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w.])|[0-9]{4}-[01][0-9]-[0-3][0-9](?!\w)"
    r"|[\w.+-]{1,64}@)"
)
_CELL = re.compile(rf"[,;]{_CELL_TEXT}", re.IGNORECASE)
#: How many commas of a URL are looked at.
_MOST_COMMAS = 64
#: A second URL behind a comma or the like begins a new one; http://a.example/http://b.example/ is one that has another.
#: So do the next cell of a row, and the words of a link in AsciiDoc: https://a.example/b[the words].
_NEXT_URL = re.compile(
    rf"[,;|'\]](?:h[tx*]{{2}}ps?|f[tx]p)://|\]\(|\[/|(?P<cell>[,;]{_CELL_TEXT})"
    r"|\[(?:[A-Za-z][^\s\[\]]{0,80}+\](?![=&\[\w/?%])|(?![^\]]{0,160}\]))",
    re.IGNORECASE,
)
_SIGN = re.compile(r"[,;|'\[\]]")
_PATH_BEGINS = frozenset("/?#")
_BRACKETED_HOST = re.compile(r"\[[^\]]*\](?::[0-9]{1,5})?")
_TRAILING = frozenset(".,;:!?'\"*_~…")
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_PORT = re.compile(r":[^:@\[\]]*\Z")
#: A user name and a password, of which a sign ended what could be read: root:pa/ss@, root:p^ss@
_SECRET = re.compile(
    r"(?!localhost:)[^\s/?#@:<>\"'`]{0,128}:(?![0-9]{1,5}(?:[?#]|/[^\s@]{0,300}[?#]|\Z))(?=[^\s<>\"'`]{0,300}@)[^\s@<>\"'`]{0,300}@"
    r"(?:[^\s/?#@<>\"'`]{0,300}@)*"
)
_NO_USER = frozenset("/?#:<>\"'` ")
_LONGEST_SECRET = 512
#: The rest of a user name that has a sign in it: http://good.example;x@evil.example/ is a page of evil.example.
_MORE_OF_USER = re.compile(r"[,;|(){}^][^\s/?#<>\"'`\\]{0,300}(?<!@)@(?=[\w.-]{1,255}(?::[0-9]{1,5})?[/?#])")
#: A browser leaves out tabs and line breaks, and then the name goes on.
_GOES_ON = re.compile(r"(?:\t[\r\n\t]*+[.@-]|[\r\n]{1,4}\.)\w[^\s<>\"']{0,300}")
_AFTER_TAB = re.compile(r"\t[\w.-]{1,255}")

_SCHEME = re.compile(r"[A-Za-z0-9+.*-]{2,32}\Z")
#: What a text can run into without a blank: ``linkhttp://``.
_GLUED = ("https", "http", "sftp", "ftps", "ftp")
#: Schemes of which the authority is a host, so that gopher://evil.sh/ is no file. Scanners, droppers and clients of
#: databases write them.
_OF_HOSTS = word_set(
    """
    amqp amqps cassandra clickhouse corba corbaname couchbase couchdb dict finger gopher gophers h2 icap icecast iiop
    imap imaps influxdb ipp ipps jms kafka ldapi mariadb memcached mms mongodb mongodb+srv mqtt mqtts mssql mysql nats
    nds neo4j netdoc nfs nis nntp ntp oracle pop pop3 pop3s postgres postgresql rdp redis rediss rlogin rsync rtmp rtmps
    rtsps sip sips smtp smtps snmp socks socks4 socks4a socks5 socks5h sqlserver stratum stratum+tcp stratum+ssl stun
    svn+ssh syslog tns turn vnc ws+unix xmpp zookeeper
    """
)


def _scheme_before(text: str, start: int, end: int) -> tuple[str, str]:
    """The URL scheme that ends at ``end``: as written, and as meant; both empty where there is none."""
    if text[end - 5 : end] == "https" and end - 5 >= start:
        return "https", "https"
    if text[end - 4 : end] == "http" and end - 4 >= start:
        return "http", "http"
    last = text[end - 1 : end]
    if not (last.isalnum() or last == "*"):
        return "", ""
    return _scheme_at_end(text[end - 24 if end - 24 > start else start : end].rpartition(" ")[2])


@lru_cache(maxsize=4096)
def _scheme_at_end(text: str) -> tuple[str, str]:
    run = _SCHEME.search(text)
    written = run[0].lstrip("0123456789+.-*") if run else ""
    scheme = written.lower()
    if scheme in URL_SCHEMES:
        return written, scheme
    odd, meant = scheme_at_end(text)
    glued = next((known for known in _GLUED if scheme.endswith(known)), "")
    if len(odd) > len(glued):
        return odd, meant
    if not glued and scheme not in _OF_HOSTS:
        # git+ssh:// is ssh://
        last = re.split(r"[+.-]", scheme)[-1]
        glued = last if last in URL_SCHEMES else ""
    if glued:
        return text[len(text) - len(glued) :], glued
    return (written, scheme) if len(scheme) > 1 and "*" not in scheme else ("", "")


def forget_schemes() -> None:
    _scheme_at_end.cache_clear()


def find_urls(text: str) -> Iterator[FoundUrl]:
    """The URLs of a text, in order. What lies between ``start`` and ``end`` is not to be read again."""
    tails = _Tails(text)
    copied = 0
    place = text.find("://")
    while place >= 0:
        after = place + 3
        named, scheme = _scheme_before(text, copied, place)
        if scheme and (found := _url_at(text, place - len(named), after, scheme, tails)):
            yield found
            copied = after = found.end
        place = text.find("://", after)


def _url_at(text: str, start: int, after: int, scheme: str, tails: _Tails) -> FoundUrl | None:
    authority = _AUTHORITY.match(text, after)
    if authority is None:
        return None if text[after : after + 1] in _NO_USER else _behind_a_secret(text, start, after, scheme, tails)
    written, following = authority[0], text[authority.end() : authority.end() + 1]
    is_cut = False
    if written[:1] == "[":
        if bracketed := _BRACKETED_HOST.match(written):
            written = bracketed[0]
        elif ":" not in written:  # http://[a.example
            after, written = after + 1, written[1:]
    else:
        opening = written.find("[", written.rfind("@") + 2) if "[" in written else -1
        if opening >= 0:  # https://a.example[the words]
            written = written[:opening]
        elif following not in _PATH_BEGINS:
            # The sentence's punctuation: "see http://a.example."
            is_cut = following == "{" and written[-1] == ":"
            written = written.rstrip("].:*_~!")
            if following and following in ",;|(){}^" and (user := _MORE_OF_USER.match(text, authority.end())):
                return _at_host(text, start, user.end(), scheme, tails)
    # A cheap test that ends here for most hostile text: no name and no address looks like that.
    read = read_authority(written) if "." in written or ":" in written or written[:1].isdecimal() else None
    if read is None:
        return _half_read(text, start, after, written, scheme, tails)
    tail_at = after + len(written)
    if following == "\\" or following.isspace():
        if goes_on := _GOES_ON.match(text, tail_at):
            return FoundUrl(start, goes_on.end(), goes_on.end(), "", DOMAIN, "")
        is_cut = following == "\\"
    return _whole(text, start, tail_at, scheme, read, tails, is_cut=is_cut)


def _half_read(text: str, start: int, after: int, written: str, scheme: str, tails: _Tails) -> FoundUrl | None:
    """What can be said of a URL with an authority that is none."""
    if text.find("@", after, after + _LONGEST_SECRET) >= 0 and (
        found := _behind_a_secret(text, start, after, scheme, tails)
    ):
        return found
    if "." not in written and "[" not in written:
        joined = _AFTER_TAB.match(text, after + len(written))
        return FoundUrl(start, joined.end(), joined.end(), "", DOMAIN, "") if joined else None
    if ":" in written[1:] and (read := read_authority(_PORT.sub("", written))):  # a port that is none
        return _whole(text, start, after + len(written), scheme, read, tails, is_cut=True)
    return None


def _behind_a_secret(text: str, start: int, after: int, scheme: str, tails: _Tails) -> FoundUrl | None:
    secret = _SECRET.match(text, after)
    return _at_host(text, start, secret.end(), scheme, tails) if secret else None


def _at_host(text: str, start: int, host_at: int, scheme: str, tails: _Tails) -> FoundUrl:
    """What a URL names of which the host begins at ``host_at``, behind a user's name that is not shown."""
    authority = _AUTHORITY.match(text, host_at)
    written = authority[0].rstrip("].:*_~!") if authority else ""
    read = read_authority(written) or read_authority(_PORT.sub("", written)) if "." in written else None
    if read is None:
        return FoundUrl(start, host_at, host_at, "", DOMAIN, "")
    return _whole(text, start, host_at + len(written), scheme, read, tails, is_cut=True)


def _whole(
    text: str,
    start: int,
    tail_at: int,
    scheme: str,
    read: tuple[str, ObservableType, str],
    tails: _Tails,
    *,
    is_cut: bool,
) -> FoundUrl:
    """:param is_cut: something of the URL could not be read: its host is known, it is not"""
    authority, kind, host = read
    is_known = scheme in URL_SCHEMES
    doubted = not is_known and scheme not in _OF_HOSTS
    end = tails.end_of(tail_at) if text[tail_at : tail_at + 1] in _PATH_BEGINS else tail_at
    if end - start <= LONGEST_URL:
        tail = _trim(text[tail_at:end]) if end > tail_at else ""
        url = url_of(scheme, authority, tail) if is_known and not is_cut else ""
        if len(url) <= LONGEST_URL:  # a slash or an A-label may have made it longer
            return FoundUrl(start, tail_at, tail_at + len(tail), url, kind, host, doubted)
    # Longer than any URL that we keep, so its end is not looked for; the rest is read like any text.
    return FoundUrl(start, tail_at, tail_at, "", kind, host, doubted)


class _Tails:
    """Where paths and queries end. Each part of the text is read once, however many URLs begin in it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._run_end = self._next_url = 0
        self._comma_ends: bool | None = None

    def end_of(self, tail_at: int) -> int:
        """Where a path and query that begin here end at the latest."""
        if self._run_end <= tail_at:
            stop = _TAIL_END.search(self._text, tail_at)
            self._run_end = stop.start() if stop else len(self._text)
            self._next_url = 0
        if self._next_url <= tail_at:
            self._next_url = self._run_end
            if sign := _SIGN.search(self._text, tail_at, self._run_end):  # seldom, and a fast search
                self._next_url = self._next_after(tail_at, sign.start())
                comma = self._text.find(",", sign.start(), self._next_url)
                if comma >= 0 and self._is_of_rows():
                    self._next_url = comma
        return self._next_url

    def _next_after(self, tail_at: int, sign_at: int) -> int:
        """Where something else than the URL begins, or the run of characters ends."""
        for _ in range(_MOST_COMMAS):
            following = _NEXT_URL.search(self._text, sign_at, self._run_end)
            if following is None:
                break
            if not (following["cell"] and self._is_of_a_list(tail_at, following)):
                return following.start()
            sign_at = following.start() + 1
        return self._run_end

    def _is_of_a_list(self, tail_at: int, following: re.Match[str]) -> bool:
        """Whether a comma is one of a parameter's own: ``?fields=url,email``, ``?ip=203.0.113.7,203.0.113.8``."""
        comma = following.start()
        value_at = self._text.rfind("=", tail_at, comma) + 1
        value = self._text[value_at:comma]
        if not value_at or "&" in value or "/" in value:
            return False
        return (
            following["word"] is not None or _CELL.match(f"{following[0][0]}{re.split('[,;]', value)[-1]}") is not None
        )

    def _is_of_rows(self) -> bool:
        """Whether the text is rows with commas between their cells, so that a comma ends a URL."""
        if self._comma_ends is None:
            lines = [line for line in self._text.split("\n") if line.strip()]
            commas = {line.count(",") for line in lines}
            # A list of URLs that have a comma each has as many in each line.
            self._comma_ends = (
                len(lines) > 1
                and len(commas) == 1
                and any("://" not in line or "," in line.partition("://")[0] for line in lines)
            )
        return self._comma_ends


def _trim(tail: str) -> str:
    """The path and query of a URL found in prose, without the punctuation that belongs to the sentence."""
    if tail.endswith("[]") and "?" not in tail:  # image::https://a.example/b.png[]
        tail = tail[:-2]
    end = len(tail)
    if not tail or (tail[-1] not in _TRAILING and tail[-1] not in _BRACKETS):
        return tail
    surplus = {closing: tail.count(closing) - tail.count(opening) for closing, opening in _BRACKETS.items()}
    while end:
        last = tail[end - 1]
        if surplus.get(last, 0) > 0:
            surplus[last] -= 1
        elif last not in _TRAILING:
            break
        end -= 1
    return tail[:end]
