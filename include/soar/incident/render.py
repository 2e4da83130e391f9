"""Templates become texts here, and only here. Imported when a text is made: reading a DAG compiles no template.

A template may be a SOC's own. It is run in a sandbox, it sees plain data only, and every value that it writes is
cleaned and escaped: there is no filter that turns this off, and ``{% autoescape false %}`` does not either. What a
SOC's templates make is looked through besides, since a value can also do harm where escaping does not help
(``<td title={{ title }}>``, ``href="{{ title }}"``). A text that fails is made with the shipped templates.
"""

from __future__ import annotations

import html
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, PrefixLoader, StrictUndefined, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from jinja2.loaders import ChoiceLoader
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from include.soar.incident.clean import TEXT, WebAddress, clean, unlinked, web_address, without_invisible

SHIPPED = Path(__file__).resolve().parent / "templates"
#: Filters that make markup out of a value, or make an address clickable.
_UNSAFE_FILTERS = ("safe", "urlize", "xmlattr")
#: What has a meaning in Markdown. A backslash takes it away from any punctuation (CommonMark, section 2.4).
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|&~^$])")
#: Which elements and attributes a SOC's templates may write.
_ELEMENTS = re.compile(
    r"a|b|blockquote|br|caption|code|div|em|h[1-6]|hr|i|li|ol|p|pre|small|span|strong"
    r"|table|tbody|td|tfoot|th|thead|tr|u|ul"
)
_ATTRIBUTES = {"align", "class", "colspan", "href", "rowspan", "title"}


class BadText(ValueError):
    """A SOC's template makes a text that must not be written to an incident."""


def environment(folders: Sequence[Path] = ()) -> Environment:
    """
    The environment of the HTML texts.

    :param folders: templates laid over the shipped ones by file name, later folders over earlier ones. The shipped
        one stays reachable as ``shipped/<name>``.
    """
    return _environment(tuple(folders), markdown=False)


@lru_cache(maxsize=8)
def _environment(folders: tuple[Path, ...], *, markdown: bool) -> Environment:
    shipped = FileSystemLoader(SHIPPED)
    made = ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([FileSystemLoader([*reversed(folders), SHIPPED]), PrefixLoader({"shipped": shipped})]),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=_markdown if markdown else _markup,
        extensions=[] if markdown else [Layout],
        trim_blocks=markdown,
        lstrip_blocks=markdown,
    )
    for name in _UNSAFE_FILTERS:
        del made.filters[name]
    # Jinja2's own escape without cleaning or cutting, and the value would then count as markup.
    made.filters.update(dict.fromkeys(("e", "escape", "forceescape"), made.finalize))
    return made


def _markup(value: object) -> Markup:
    """A value as it gets into HTML. What is markup already was made by a macro, whose own values went through here."""
    if isinstance(value, Markup):
        return value
    text = "" if value is None else clean(value, TEXT)
    return Markup(html.escape(text if isinstance(value, WebAddress) else unlinked(text)))  # noqa: S704 - escaped here


def _markdown(value: object) -> Markup:
    text = "" if value is None else clean(value)
    text = text if isinstance(value, WebAddress) else unlinked(text)
    return Markup(_MARKDOWN.sub(r"\\\1", text))  # noqa: S704 - no HTML: every bracket has its backslash


class Layout(Extension):
    """
    A template's line breaks and indentation are for its reader: beside a tag or a value they vanish, between words
    they are one space. Done on tokens, so that an error still names the line.
    """

    def filter_stream(self, stream: TokenStream) -> Iterable[Token]:
        for token in stream:
            yield Token(token.lineno, "data", _unbroken(token.value)) if token.type == "data" else token


def _unbroken(text: str) -> str:
    text = re.sub(r"(\A|>)\s*\n\s*", r"\1", text)
    text = re.sub(r"\s*\n\s*(<|\Z)", r"\1", text)
    return re.sub(r"\s*\n\s*", " ", text)


def render(
    name: str,
    values: Mapping[str, Any],
    *,
    folders: Sequence[Path] = (),
    must_show: str = "",
    on_problem: Callable[[str], None] | None = None,
) -> str:
    """
    The text of the template ``name``. Where a SOC's templates fail, ``on_problem`` gets one line with the template's
    file and line, and the text is that of the shipped ones; without ``on_problem`` the error is raised.

    :param must_show: what the text must show, or a repeated run would not find it
    """
    if folders:
        try:
            text = _render(name, values, tuple(folders))
            if not name.endswith(".md.j2"):
                check(text, must_show)
            return text
        except Exception as error:  # whatever a template raises, the incident is written
            if on_problem is None:
                raise
            on_problem(f"{_place(error, name, folders)}: {clean(error)}; the shipped templates are used for {name}")
    return _render(name, values, ())


def _render(name: str, values: Mapping[str, Any], folders: tuple[Path, ...]) -> str:
    if name.endswith(".md.j2"):
        return _environment(folders, markdown=True).get_template(name).render(values).strip("\n")
    return without_invisible(environment(folders).get_template(name).render(values))


def _place(error: Exception, name: str, folders: Sequence[Path]) -> str:
    """``file:line`` of the SOC's template in which it happened, or the name of the text alone."""
    if isinstance(error, TemplateSyntaxError):
        return f"{error.filename or error.name or name}:{error.lineno}"
    own = tuple(f"{folder}/" for folder in folders)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(own)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else name


class _Shown(HTMLParser):
    """The text that a reader sees, if the markup is such as may be written to an incident."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        if not _ELEMENTS.fullmatch(name):
            raise BadText(f"the element {name} is not allowed")
        for key, value in attrs:
            if key not in _ATTRIBUTES:
                raise BadText(f"the attribute {key} of {name} is not allowed")
            if key == "href" and not web_address(value):
                raise BadText("a link is not a plain web address")

    def handle_data(self, data: str) -> None:
        self.text += data


def check(markup: str, must_show: str) -> None:
    """:raises BadText: the markup must not be written to an incident, or does not show ``must_show``"""
    shown = _Shown()
    shown.feed(markup)
    shown.close()
    if must_show not in shown.text:
        raise BadText("the reference is not shown, by which a repeated run finds the text")
