"""Why an observable was judged as it was: the stored verdict, made again, and what another policy would say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from include.ops.replay import ReplayError, Rules, differences, run_of, stored_judgement
from include.ops.text import outcome_words, safe, shown, when
from include.soar.incident.clean import defang
from include.soar.judge.verdict import Judgement, judge
from include.soar.ledger.tables import VerdictRow
from include.soar.model import Verdict, digest
from include.soar.policy.file import stored_policy
from include.soar.policy.rules import Policy, PolicyError


def explanation(
    row: VerdictRow, document: Mapping[str, Any] | None, *, named_by: Sequence[str] = ()
) -> tuple[str, bool]:
    """
    The verdict's reasons, gate, plan and origin as text, and whether it is bit for bit what its inputs give.

    :param document: the policy of that time, as the ledger has it
    :param named_by: warning lists of today that name the value and refuse nothing: ``WarningLists.tags``
    :raises ReplayError: the stored inputs cannot be used
    """
    made, other = stored_judgement(row), None
    try:
        policy = _policy_of(row, document)
    except (PolicyError, ReplayError) as error:
        same, again = False, f"NOT POSSIBLE: {error}"
    else:
        different = differences(made.verdict, policy, made.inputs)
        same, again = (
            not different,
            f"DIFFERS in {', '.join(different)}: the row was changed, or another release decided",
        )
        if same:
            again = f"the same, bit for bit (inputs {row.inputs_digest[:12]}, policy {row.policy_digest[:12]})"
        else:
            other = judge(made.inputs, policy)
    observable = made.inputs.observable
    hit = made.inputs.hit
    protected = safe(f"protected by {hit.layer} {hit.list_name} {hit.entry}: {hit.reason}") if hit else "not protected"
    lines = [
        f"{shown(defang(observable))}  ({observable.type.value})",
        f"{row.standing}, confidence {row.confidence}",
        "",
        f"decided      {when(row.decided_at)}, run {shown(row.run_id)}",
        f"seen         {_sightings(made)}",
        f"gate         {protected}",
        *([f"named by     {', '.join(named_by)}: warning lists that refuse nothing"] if named_by else []),
        f"plan         {outcome_words(made.outcome, made.plan)}",
        f"made again   {again}",
        "",
        "Reasons",
        *_reasons(made.verdict),
    ]
    if other:
        lines += ["", f"Its inputs give {other.standing.value}, confidence {other.confidence}", *_reasons(other)]
    return "\n".join(lines) + "\n", same


def _policy_of(row: VerdictRow, document: Mapping[str, Any] | None) -> Policy:
    if document is None or digest(document) != row.policy_digest:
        problem = "is not in the ledger" if document is None else "was changed in the ledger"
        raise ReplayError(f"the policy {row.policy_digest[:12]}, by which it was judged, {problem}")
    return stored_policy(document)


def _reasons(verdict: Verdict) -> list[str]:
    return [f"{number:>3}. {safe(reason)}" for number, reason in enumerate(verdict.reasons, 1)]


def _sightings(made: Judgement) -> str:
    observed = made.inputs.observed
    roles = Counter(s.role.value for s in observed.sightings)
    as_what = ", ".join(f"{count} × {role}" for role, count in sorted(roles.items()))
    return f"{as_what} in {len(made.inputs.findings)} findings, last {when(observed.last_seen_at)}"


def under_another_policy(row: VerdictRow, rules: Rules, name: str) -> str:
    """What would be decided under ``rules``, beside what was. This observable alone: a run's caps are not asked."""
    made = stored_judgement(row)
    _, (other,) = run_of([row]).decide(rules)
    changes = [
        ("standing", made.verdict.standing.value, other.verdict.standing.value),
        ("confidence", str(made.verdict.confidence), str(other.verdict.confidence)),
        ("plan", outcome_words(made.outcome, made.plan), outcome_words(other.outcome, other.plan)),
    ]
    lines = [f"Under {shown(name)} ({rules.policy.digest[:12]})"]
    lines += [
        f"  {what:<11}{f'{before}  ->  {after}' if before != after else f'{after} (no change)'}"
        for what, before, after in changes
    ]
    lines += _changed_lines(made.verdict.reasons, other.verdict.reasons)
    return "\n".join(lines) + "\n"


def _changed_lines(before: Sequence[str], after: Sequence[str]) -> list[str]:
    gone = [f"  - {safe(reason)}" for reason in before if reason not in after]
    return gone + [f"  + {safe(reason)}" for reason in after if reason not in before]
