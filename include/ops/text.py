"""Foreign text on a terminal: nothing in it is obeyed, and nothing in it can be clicked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from pydantic import BaseModel

from include.soar.judge.verdict import HOLD
from include.soar.model import Indicator, Refusal
from include.soar.policy.rules import Policy

_SCHEME = re.compile(r"\b(ht|f)tp(?=s?://)", re.IGNORECASE)
#: A dotted name or an IPv4 address, and not a number with a fraction.
_DOTTED = re.compile(r"(?<!\w)(?:[\w-]+\.)+[^\W\d_][\w-]*|(?<!\w)\d+(?:\.\d+){3}(?!\w)")


def _fields(section: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield above + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{above}{name}.")


#: The policy's own file and fields, as reasons name them: ``block.evidence`` is not a host. Only as a whole: whoever
#: attacks may have a host that is called ``block.evidence.evil.example``.
_OURS = frozenset({"policy.yaml", *_fields(Policy)})


def shown(text: str) -> str:
    """With control, invisible and direction-changing characters written out, so that no terminal obeys them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown_lines(text: str) -> str:
    """Several lines, each as :func:`shown`."""
    return "\n".join(map(shown, text.split("\n")))


def safe(text: str) -> str:
    """Text that may name a host: shown, with every dotted name and address defanged."""
    harmless = _SCHEME.sub(lambda m: "fxp" if m[1].lower() == "f" else "hxxp", text)
    return shown(_DOTTED.sub(lambda m: m[0] if m[0] in _OURS else m[0].replace(".", "[.]"), harmless))


def when(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def outcome_words(outcome: str, plan: Indicator | Refusal | None) -> str:
    """What became of a verdict, in one line."""
    if isinstance(plan, Indicator):
        held = "held until a person answers; " if outcome == HOLD else ""
        seen = f"seen as {', '.join(plan.roles)}"
        rungs = "; ".join(f"{s.rung.value} until {when(s.expires_at)} ({'; '.join(s.ways)})" for s in plan.steps)
        what = rungs or f"to be acted on until {when(plan.expires_at)}"
        return safe(f"{held}{what}; {seen}" + (f"; {plan.enough}" if plan.enough else ""))
    if plan is None:
        return "left alone: nothing speaks for a response, or it was seen in no finding of high priority"
    where = " ".join(part for part in (plan.layer, plan.list_name, plan.entry) if part)
    return safe(f"refused: {where}: {plan.reason}")
