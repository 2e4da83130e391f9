"""What a caller gives to have a text made, beside the case and the decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from include.soar.incident.clean import Link
from include.soar.model import Action, IncidentRef, Observable, Relation, Rung

if TYPE_CHECKING:
    from include.soar.incident.views import View


@dataclass(frozen=True)
class InForce:
    """
    One value of ours that has an effect at a control, as the ledger knows it.

    :param since: when it was first so
    :param until: None: it has no end
    """

    observable: Observable
    control: str
    since: datetime | None = None
    until: datetime | None = None
    rung: Rung | None = None


@dataclass(frozen=True)
class Asking:
    """
    How a person is asked about what is held.

    :param wait: how long the run waits for the answer
    :param incidents: where the findings' incidents are
    :param acts_unanswered: the rungs that are acted on though nobody answers
    """

    wait: timedelta
    incidents: Sequence[IncidentRef] = ()
    acts_unanswered: frozenset[Rung] = frozenset()


@dataclass(frozen=True)
class State:
    """
    What the controls did about one finding, and who says so.

    :param actions: those of the finding (``texts.actions_of``)
    :param in_force: what is in force of the finding's values, whoever put it there when
    :param skipped: names of stages that did not take part
    :param run: the Airflow run, with its page
    :param at: when this was so
    :param reference: ``texts.state_reference``
    """

    actions: Sequence[Action]
    relations: Sequence[Relation]
    skipped: Sequence[str]
    run: Link
    at: datetime
    reference: str
    in_force: Sequence[InForce] = ()


@dataclass(frozen=True)
class Note:
    """
    What became of blocks after the run that made them.

    :param actions: of one incident
    :param by: who wanted it; empty: nobody but the project itself
    :param because: why
    :param reference: ``marks.note_reference``
    """

    actions: Sequence[Action]
    run: Link
    at: datetime
    reference: str
    by: str = ""
    because: str = ""


@dataclass(frozen=True)
class Templates:
    """
    The templates that write the texts: the shipped ones, and a SOC's own over them.

    :param folders: templates laid over the shipped ones by file name, later folders over earlier ones
    :param on_problem: gets one line when a SOC's template fails, and the text is made with the shipped ones; without
        it the error is raised
    """

    folders: tuple[Path, ...] = ()
    on_problem: Callable[[str], None] | None = None

    def text(self, view: View, *, must_show: str = "") -> str:
        """:param must_show: what the text must show, or a repeated run would not find it"""
        from include.soar.incident.render import render  # jinja2: when a text is made, not when a DAG is read

        values = {field.name: getattr(view, field.name) for field in fields(view)}
        return render(view.template, values, folders=self.folders, must_show=must_show, on_problem=self.on_problem)


SHIPPED = Templates()
