"""The templates of the incident's texts: a SOC may replace them, and no error or hostile value gets through."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import nodes

from include.soar.incident import marks, render, texts, views
from include.soar.incident.clean import Link
from include.soar.incident.inputs import Templates
from include.soar.model import Action, Outcome, Verb
from tests.conftest import ROOT
from tests.soar.incident.test_texts import ADDRESS, HOSTILE, NOW, Tags, documents, held, state_of, visible, world

DOCUMENT = ROOT / "docs/incident-texts.md"
BEGIN, END = "<!-- names:begin (tests/soar/incident/test_templates.py) -->\n", "<!-- names:end -->\n"


def note_of(text: str, run: Link) -> texts.Note:
    """A note with foreign text wherever it can be."""
    action = Action(control="waf", verb=Verb.LIFT, observable=ADDRESS, outcome=Outcome.LIFTED, detail=text)
    reference = marks.note_reference(text, [(text,)])
    return texts.Note([action], run, NOW, reference, by=text, because=text)


#: The view of each text.
VIEWS: tuple[type[views.View], ...] = get_args(views.View)
#: Each text, by the name of its template.
MAKERS: dict[str, Callable[[str, str | None, Templates], str]] = {
    "description.html.j2": lambda text, url, templates: texts.description(
        *world(text, "https://evil.example/", url), source=text, mark="TR-x", templates=templates
    ),
    "related_comment.html.j2": lambda text, url, templates: texts.related_comment(
        *world(text, "https://evil.example/", url),
        incident=Link(text, url),
        shared=[ADDRESS],
        reference="TR-R-x",
        templates=templates,
    ),
    "state_report.html.j2": lambda text, url, templates: texts.state_report(
        *world(text, "https://evil.example/", url), state_of(run=Link(text, url), skipped=[text]), templates=templates
    ),
    "response_note.html.j2": lambda text, url, templates: texts.response_note(
        note_of(text, Link(text, url)), templates=templates
    ),
    "duplicate_note.html.j2": lambda text, url, templates: texts.duplicate_note(text, templates=templates),
    "question.md.j2": lambda text, url, templates: texts.question(
        held(world(text, "https://evil.example/", url)[1], text), texts.Asking(timedelta(hours=12)), templates=templates
    )[1],
}
HTML = sorted(set(MAKERS) - {"question.md.j2"})
#: In each view, a name whose value is foreign.
FOREIGN = {
    "description.html.j2": "title",
    "related_comment.html.j2": "title",
    "state_report.html.j2": "run.text",
    "response_note.html.j2": "because",
    "duplicate_note.html.j2": "name",
    "question.md.j2": "because[0]",
}
INERT = ["{{7*7}}", "{% for x in y %}", "{# gone #}", "<script>alert(1)</script>", "\u202efdp.exe", "a\u2028b\u2029c"]


class Soc:
    """A SOC's folder of templates, and what was said about them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self.templates = Templates((folder,), on_problem=self.problems.append)

    def write(self, name: str, source: str) -> Soc:
        (self.folder / name).write_text(source, encoding="utf-8")
        return self

    def make(self, name: str, text: str = "x", url: str | None = None) -> str:
        return MAKERS[name](text, url, self.templates)


@pytest.fixture
def soc(tmp_path: Path) -> Soc:
    return Soc(tmp_path)


def shipped(name: str, text: str = "x", url: str | None = None) -> str:
    return MAKERS[name](text, url, Templates())


def own(name: str) -> str:
    """A template that writes the foreign name, and the reference where the text must show it."""
    reference = " {{ reference }}" if "reference" in {f.name for f in fields(view_of(name))} else ""
    return f"{{{{ {FOREIGN[name]} }}}}{reference}"


def view_of(name: str) -> type[views.View]:
    [view] = [v for v in VIEWS if v.template == name]
    return view


# --- which text is made by which template -----------------------------------------------------------------------


def test_every_view_has_its_template_and_every_template_its_view() -> None:
    files = {path.name for path in render.SHIPPED.iterdir()}
    assert files == {view.template for view in VIEWS} | {"parts.html.j2"} == {*MAKERS, "parts.html.j2"}


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_the_shipped_template_names_every_field_of_its_view(name: str) -> None:
    source = (render.SHIPPED / name).read_text("utf-8")
    used = {node.name for node in texts.environment().parse(source).find_all(nodes.Name)}
    assert {f.name for f in fields(view_of(name))} - used == set()


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.template)
def test_a_view_is_plain_data(view: type[Any]) -> None:
    """Strings, numbers, and tuples and other views of them: nothing that a template could call or change."""
    seen, todo = set(), [view]
    while todo:
        kind = todo.pop()
        if kind in seen or kind in (str, int, type(None), Ellipsis, views.Row):
            continue
        seen.add(kind)
        todo += get_args(kind)
        origin = getattr(kind, "__origin__", kind)
        if is_dataclass(origin):
            assert origin.__dataclass_params__.frozen
            hints = get_type_hints(origin)
            todo += [hints[f.name] for f in fields(origin)]
        else:
            assert get_args(kind), kind
            assert origin is tuple or type(None) in get_args(kind)


def names_table() -> str:
    """The names of each template and of what it gets, from the views."""
    parts = [v for v in vars(views).values() if is_dataclass(v) and v not in VIEWS]
    rows = [("Template", "Names"), ("---", "---")]
    rows += [(f"`{view.template}`", names(view)) for view in VIEWS]
    rows += [(part.__name__, names(part)) for part in parts]
    return "".join(f"| {left} | {right} |\n" for left, right in rows)


def names(view: Any) -> str:
    return ", ".join(f"`{f.name}`{spelled(f.type)}" for f in fields(view))


def spelled(kind: str) -> str:
    """What is no text is said: ``(Rows of ActionRow)``."""
    words = re.sub(r"Rows\[(\w+)\]", r"Rows of \1", kind)
    words = re.sub(r"tuple\[(\w+), \.\.\.\]", r"several \1", words)
    words = words.replace("several Row", "several").replace("several str", "several")
    words = words.replace("int", "number").replace(" | None", " or none")
    return "" if words in ("str", "str or none") else f" ({words})"


def test_the_document_has_the_names_of_the_views() -> None:
    document = DOCUMENT.read_text("utf-8")
    assert document.partition(BEGIN)[2].partition(END)[0].strip() == names_table().strip()


# --- a SOC's own templates --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_socs_template_replaces_the_shipped_one_of_that_name_only(name: str, soc: Soc) -> None:
    soc.write(name, f"{own(name)} ours")
    assert soc.make(name).endswith(" ours")
    for other in MAKERS.keys() - {name}:
        assert soc.make(other) == shipped(other)
    assert soc.problems == []


def test_one_part_can_be_replaced_and_the_rest_is_the_shipped_text(soc: Soc) -> None:
    soc.write(
        "description.html.j2",
        '{% extends "shipped/description.html.j2" %}\n{% block event %}<p>Call 555: {{ title }}</p>{% endblock %}\n',
    )
    soc.write("parts.html.j2", (render.SHIPPED / "parts.html.j2").read_text("utf-8").replace("b>", "strong>"))
    made = soc.make("description.html.j2", "many logins")
    assert "<p>Call 555: many logins</p>" in made
    assert "<p><strong>Observables</strong></p>" in made
    assert "<th>why an incident</th>" in made
    assert soc.problems == []


def test_a_later_folder_lies_over_an_earlier_one(tmp_path: Path) -> None:
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
        Soc(folder).write("duplicate_note.html.j2", f"{folder.name} {{{{ name }}}}")
    assert texts.duplicate_note("INC1", templates=Templates(folders)) == "b INC1"
    assert texts.duplicate_note("INC1", templates=Templates(folders[::-1])) == "a INC1"


def test_a_changed_template_is_read_again(soc: Soc) -> None:
    name = "duplicate_note.html.j2"
    assert soc.write(name, "one").make(name) == "one"
    soc.write(name, "two")
    os.utime(soc.folder / name, ns=(1, 1))
    assert soc.make(name) == "two"


def test_line_breaks_and_indentation_of_a_template_are_layout(soc: Soc) -> None:
    soc.write(
        "duplicate_note.html.j2",
        "<p>\n  two\n  words: {% if name %}\n    {{ name }}, {% endif %}\n  {{ name }}\n</p>\n\n<p>\n  end\n</p>\n",
    )
    assert soc.make("duplicate_note.html.j2") == "<p>two words: x, x</p><p>end</p>"


# --- an error in a SOC's template -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MAKERS))
@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("<p>\n{% if %}", 2),
        ("<p>\n\n{{ nobody_knows_this }}", 3),
        ("<p>\n{{ 1 / 0 }}", 2),
        ("<p>\n{% include 'nowhere.html.j2' %}", 2),
        ("<p>\n{% include '../../../../etc/passwd' %}", 2),
        ("<p>\n{{ ''.__class__.__mro__ }}", 2),
        ("<p>\n{{ foreign | safe }}", 2),
        ("<p>\n{{ foreign | urlize }}", 2),
        ("<p>\n{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", 2),
    ],
)
def test_an_error_costs_the_own_text_and_not_the_incident(name: str, source: str, line: int, soc: Soc) -> None:
    soc.write(name, source.replace("foreign", FOREIGN[name]))
    assert soc.make(name, "many logins") == shipped(name, "many logins")
    [problem] = soc.problems
    assert problem.startswith(f"{soc.folder / name}:{line}: ")
    assert problem.endswith(f"; the shipped templates are used for {name}")
    assert "\n" not in problem


def test_an_error_in_the_parts_is_one_of_each_text_that_uses_them(soc: Soc) -> None:
    soc.write("parts.html.j2", "{% macro link(to) %}\n{{ to.nothing }}\n{% endmacro %}")
    assert soc.make("related_comment.html.j2") == shipped("related_comment.html.j2")
    assert soc.make("duplicate_note.html.j2") == shipped("duplicate_note.html.j2")
    [problem] = soc.problems
    assert problem.startswith(f"{soc.folder}/parts.html.j2:2: ")


def test_a_file_that_is_no_text_costs_the_own_text_only(soc: Soc) -> None:
    (soc.folder / "duplicate_note.html.j2").write_bytes(b"\xff\xfe\x00")
    assert soc.make("duplicate_note.html.j2") == shipped("duplicate_note.html.j2")
    assert len(soc.problems) == 1


def test_without_a_listener_the_error_is_raised(soc: Soc) -> None:
    soc.write("duplicate_note.html.j2", "{{ 1 / 0 }}")
    with pytest.raises(ZeroDivisionError):
        texts.duplicate_note("x", templates=Templates((soc.folder,)))


@pytest.mark.parametrize("name", ["related_comment.html.j2", "state_report.html.j2"])
@pytest.mark.parametrize("source", ["<p>short</p>", "<!-- {{ reference }} -->", '<p title="{{ reference }}">x</p>'])
def test_a_comment_that_a_repeated_run_would_not_find_is_not_written(name: str, source: str, soc: Soc) -> None:
    soc.write(name, source)
    assert soc.make(name) == shipped(name)
    assert "the reference is not shown" in soc.problems[0]


# --- hostile values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", INERT)
@pytest.mark.parametrize("name", sorted(MAKERS))
@pytest.mark.parametrize("overridden", [False, True])
def test_a_hostile_value_stays_inert(overridden: bool, name: str, text: str, soc: Soc) -> None:
    if overridden:
        soc.write(name, own(name))
    made = soc.make(name, text)
    assert soc.problems == []
    assert "49" not in made.replace("38:50", "")
    assert not set(made) & set("\u202e\u2028\u2029")
    if name in HTML:
        assert "script " not in Tags(made).seen
        if "{" in text:
            assert text in made  # as it is: nobody has rendered it
    else:
        assert not re.search(r"(?<!\\)[<>()\[\]]", made.replace("(s)", ""))


@pytest.mark.parametrize(
    "source",
    [
        "{{ foreign }}",
        "{{ foreign | e }}",
        "{{ foreign | escape | upper }}",
        "{{ foreign | forceescape }}",
        "{{ foreign | string | trim }}",
        "{{ foreign | tojson }}",
        "{{ [foreign, foreign] | join('<br>') }}",
        "{{ foreign | replace('x', 'y') | wordwrap(5) }}",
        "{{ '<b>%s</b>' | format(foreign) }}",
        "{{ '<b>{}</b>'.format(foreign) }}",
        "{% autoescape false %}{{ foreign }}{% endautoescape %}",
        "{% autoescape false %}{{ foreign ~ '' }}{% endautoescape %}",
        "{% set made %}{{ foreign }}{% endset %}{{ made }}",
        "{% set made %}<p>{{ foreign }}</p>{% endset %}{{ made ~ foreign }}{{ made.unescape() }}",
        "{% set made %}<p>%s</p>{% endset %}{{ made % foreign }}{{ made.format(foreign) }}",
        "{% filter upper %}{{ foreign }}{% endfilter %}",
        "{% macro show(x) %}<p>{{ x }}</p>{% endmacro %}{{ show(foreign) }}{{ show(show(foreign)) }}",
        "{% macro around() %}<p>{{ caller() }}</p>{% endmacro %}{% call around() %}{{ foreign }}{% endcall %}",
        "{% import 'parts.html.j2' as parts %}{{ parts.heading(foreign) }}{{ parts.fact(foreign, foreign) }}",
        "<!-- {{ foreign }} -->",
        '<p title="{{ foreign }}">x</p>',
        "<p title='{{ foreign }}'>x</p>",
        "<p title={{ foreign }}>x</p>",
        '<a href="{{ foreign }}">x</a>',
        "<script>let x = '{{ foreign }}'</script>",
        "<p onclick=\"say('{{ foreign }}')\">x</p>",
        "<{{ foreign }}>",
        "<p {{ foreign }}>x</p>",
    ],
)
@settings(max_examples=25, deadline=None)
@given(
    text=st.one_of(
        HOSTILE.filter(visible),
        st.sampled_from(
            [
                *INERT,
                "javascript:alert(1)",
                "x onclick=alert(1)",
                "x' onclick='alert(1)",
                "script",
                "https://e.example/",
            ]
        ),
    )
)
def test_no_template_lets_markup_through(tmp_path_factory: pytest.TempPathFactory, source: str, text: str) -> None:
    soc = Soc(tmp_path_factory.mktemp("soc"))
    soc.write("duplicate_note.html.j2", source.replace("foreign", "name"))
    made = soc.make("duplicate_note.html.j2", text)
    tags = Tags(made)
    assert {tag.partition(" ")[0] for tag in tags.seen} <= {"p", "b", "a", "tr", "th", "td", "comment"}
    assert {tag.partition(" ")[2] for tag in tags.seen if not tag.startswith("comment ")} <= {"", "title", "href"}
    assert all(link.startswith(("http://", "https://")) for link in tags.links)
    assert not set(made) & set("\u202e\u2028\u2029\x00")


@pytest.mark.parametrize("length", [2000, 2001])
def test_an_address_is_a_whole_link_or_none(length: int) -> None:
    """A value is cut at 2,000 characters: a cut address would lead elsewhere."""
    url = "https://console.example/".ljust(length, "x")
    links = Tags(shipped("related_comment.html.j2", "x", url)).links
    assert set(links) == ({url} if length == 2000 else set())


@pytest.mark.parametrize("name", HTML)
@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "https://", "//evil.example", "https:\\\\x"]
)
def test_a_socs_template_gets_no_address_that_must_not_be_clickable(name: str, url: str, soc: Soc) -> None:
    """The view has none: nothing else says that a link is to be made."""
    assert Link("x", url).url is None
    assert url not in soc.make(name, "x", url)


def test_a_socs_template_sees_observables_defanged_only(soc: Soc) -> None:
    soc.write(
        "description.html.j2",
        "{{ observables }} {{ sources }} {{ acting }} {{ held }} {{ refusals }} {{ unanswered }}",
    )
    made = soc.make("description.html.j2")
    assert "203[.]0[.]113[.]10" in made
    assert "203.0.113.10" not in made
    assert "https://evil" not in made


def test_the_shipped_texts_are_such_as_a_soc_may_write() -> None:
    """What is looked for in a SOC's texts is not in ours, or a small change of one would be refused."""
    for document in documents("many logins", "https://evil.example/a", "https://console.example/e/1"):
        render.check(document, "")


def test_what_only_a_text_needs_is_not_imported_with_the_dag() -> None:
    code = "import sys, include.soar.incident.texts; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    parts = {f"include.soar.incident.{name}" for name in ("gather", "plain", "render", "views")}
    assert parts.isdisjoint(done.stdout.split())
    assert {"jinja2", "html.parser"}.isdisjoint(done.stdout.split())
