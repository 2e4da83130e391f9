"""How foreign text is shown: on one visible line, cut, and so that nothing becomes clickable.

Foreign is whatever an event, a source or a product said. Nothing here escapes: the templates' environment does
(``render.py``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from include.soar.model import Observable, ObservableType

#: Longest cell and longest running text in characters, and rows of one table: a comment must stay readable, and a
#: vendor's limit on its length is not known.
CELL, TEXT, ROWS = 300, 2000, 100
#: C0 and C1 controls, surrogates, and the characters that turn or hide text: bidirectional overrides, zero width,
#: fillers, and the tags and selectors in which a sentence may be written that only a machine reads.
_INVISIBLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
#: Plain web addresses. No quotes or angle brackets, and no backslash: browsers read it as a slash.
_LINKABLE = re.compile(r"https?://[!#-&(-;=?-\[\]-_a-~]+")
#: What case systems and mail clients make clickable in a text by themselves.
_LINKED = re.compile(r"(ht|f)tp(?=s?://)|(?<![a-z0-9])www\.", re.IGNORECASE)
_SCHEMES = {"http": "hxxp", "https": "hxxps", "ftp": "fxp"}


def clean(text: object, limit: int = CELL) -> str:
    """Foreign text on one visible line of at most ``limit`` characters. Not escaped yet."""
    line = " ".join(without_invisible(str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def web_address(url: str | None) -> str | None:
    """``url`` if it is plain http or https with a host, else None: a ``javascript:`` must never be clickable."""
    if not url or not _LINKABLE.fullmatch(url):
        return None
    try:
        return url if urlsplit(url).hostname else None
    except ValueError:
        return None


class WebAddress(str):
    """A link's address, which :func:`web_address` has passed: the only one that stays as it is."""


def unlinked(text: str) -> str:
    """The text with ``hxxp://`` and ``www[.]``, in whose place a web address would be made clickable."""
    return _LINKED.sub(
        lambda found: {"ht": "hxxp", "f": "fxp"}.get((found[1] or "").lower(), f"{found[0][:-1]}[.]"), text
    )


def without_invisible(text: str) -> str:
    """The text with a space for each run of controls and of characters that turn or hide text."""
    return _INVISIBLE.sub(" ", text)


def defang(observable: Observable) -> str:
    """The value, so written that nothing makes it clickable: ``hxxps://evil[.]example/x``, ``203[.]0[.]113[.]10``."""
    value = observable.value
    if observable.type is ObservableType.FILE:
        return value
    if observable.type is ObservableType.URL:
        scheme, separator, rest = value.partition("://")
        value = f"{_SCHEMES.get(scheme.lower(), scheme)}{separator}{rest}"
    return value.replace(".", "[.]")


def when(instant: datetime | None) -> str:
    """``2026-01-18 07:38:50 UTC``; ``-`` for None."""
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC" if instant else "-"


@dataclass(frozen=True)
class Link:
    """A name, and the address behind it: None unless it is plain http or https, and short enough to be shown whole."""

    text: str
    url: str | None = None

    def __post_init__(self) -> None:
        url = web_address(self.url) if len(self.url or "") <= TEXT else None
        object.__setattr__(self, "url", WebAddress(url) if url else None)
