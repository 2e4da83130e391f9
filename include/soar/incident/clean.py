"""TODO: what clean is."""

from __future__ import annotations

import re
from datetime import datetime
from html.parser import HTMLParser
from urllib.parse import urlsplit

from include.soar.model import (
    Observable,
    ObservableType,
)

#: Longest cell, longest running text, and rows of one table: a comment must stay readable, and a vendor's limit on
#: its length is not known.
CELL = 300
TEXT = 2000
#: C0 and C1 controls, surrogates, and the characters that turn or hide text (bidirectional overrides, zero width).
_INVISIBLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]+"
)
#: Plain web addresses. No quotes or angle brackets, and no backslash: browsers read it as a slash.
_LINKABLE = re.compile(r"https?://[!#-&(-;=?-\[\]-_a-~]+")
_SCHEMES = {"http": "hxxp", "https": "hxxps", "ftp": "fxp"}


def clean(text: object, limit: int = CELL) -> str:
    """Foreign text on one visible line of at most ``limit`` characters. Not escaped yet."""
    line = " ".join(_INVISIBLE.sub(" ", str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


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
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC" if instant else "-"


class _Text(HTMLParser):
    """HTML as lines: a table row is one line, cells apart by `` | ``."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = [""]
        self._cells = 0
        self._href = ""

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        if name in ("p", "tr", "table"):
            self.lines.append("")
            self._cells = 0
        elif name in ("td", "th"):
            self.lines[-1] += " | " if self._cells else ""
            self._cells += 1
        elif name == "li":
            before = self.lines[-1]
            self.lines[-1] += " " if before.endswith(":") else "; " if before and not before.endswith("| ") else ""
        elif name == "a":
            self._href = dict(attrs).get("href") or ""

    def handle_endtag(self, name: str) -> None:
        if name == "a" and self._href:
            self.lines[-1] += f" <{clean(self._href, TEXT)}>"

    def handle_data(self, data: str) -> None:
        self.lines[-1] += _INVISIBLE.sub(" ", data)


def render_text(markup: str) -> str:
    """A description or a comment as plain text, for logs and terminals. No control characters but the line ends."""
    parser = _Text()
    parser.feed(markup)
    parser.close()
    return "\n".join(line for line in (" ".join(line.split()) for line in parser.lines) if line)


ROWS = 100
