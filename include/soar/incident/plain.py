"""HTML as the lines that a reader sees, for logs and terminals."""

from __future__ import annotations

from html.parser import HTMLParser

from include.soar.incident.clean import TEXT, clean, without_invisible


def lines(markup: str) -> list[str]:
    """The lines of a description or a comment that are not empty."""
    parser = _Text()
    parser.feed(markup)
    parser.close()
    return [line for line in (" ".join(line.split()) for line in parser.lines) if line]


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
        self.lines[-1] += without_invisible(data)


def render_text(markup: str) -> str:
    """A description or a comment as plain text, for logs and terminals. No control characters but the line ends."""
    return "\n".join(lines(markup))
