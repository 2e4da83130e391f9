"""
The commands of ``airflow threat-response …`` (arguments: ``plugins/threat_response/cli.py``). ``block``, ``lift`` and
``allow`` do what a person wants at the controls; the others read the ledger and write nothing to it. Policies are
files, ``:``-separated, later ones override earlier ones.

Exit codes: 0; 1 explain: the stored verdict is not what its inputs give, policy-diff: B hits something known to be
good, check-policy: the policy is wrong, verify-audit: a row was changed, blocks --check: a control and the ledger
differ, block, lift, allow: not everything was done; 2 the question cannot be answered, or nothing was done.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from include.ops import answers_diff as answers
from include.ops import policy_diff as policies
from include.ops.explain import explanation, under_another_policy
from include.ops.export import export as write_table
from include.ops.in_force import blocks as in_force
from include.ops.in_force import by_hand
from include.ops.replay import ReplayError, Rules, run_of
from include.ops.text import shown, shown_lines
from include.soar.extract.refang import refang
from include.soar.extract.values import KINDS, parse_any
from include.soar.gate.index_file import shipped
from include.soar.ledger import Ledger, SQLAlchemyError
from include.soar.model import Observable, Severity
from include.soar.policy.file import asn_table, load_policy
from include.soar.policy.rules import Policy, PolicyError
from include.soar.vendor.errors import VendorError, one_line
from threat_response import groups, registry
from threat_response.runtime import settings


class CannotAnswer(ValueError):
    """The question cannot be answered; the message says why."""


def observable_of(text: str) -> Observable:
    """One value as a person writes or pastes it, defanged or not. :raises CannotAnswer: it is none"""
    plain = refang(text.strip())
    if found := parse_any(plain):
        return found
    *words, last = dict.fromkeys(kind.words for kind in KINDS.values())
    raise CannotAnswer(f"{shown(text)} is no {', '.join(words)} or {last}")


def open_ledger(url: str | None) -> Ledger:
    """:raises CannotAnswer: there is none at that place: asking must not make one"""
    url = url or settings.ledger_url()
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise CannotAnswer(f"there is no ledger at {url}: give --ledger, or set [threat_response] home")
    return Ledger(url)


def policy_of(files: str) -> Policy:
    if files == "current":
        return settings.policy()
    return load_policy([Path(file) for file in files.split(":")])


def explain(options: argparse.Namespace) -> int:
    ledger, observable = open_ledger(options.ledger), observable_of(options.observable)
    row = ledger.verdicts.latest(observable, at=options.at or datetime.now(UTC))
    if row is None:
        raise CannotAnswer(f"the ledger has no verdict about {observable.type.value} {shown(options.observable)}")
    text, same = explanation(row, ledger.verdicts.policy(row.policy_digest), named_by=shipped().tags(observable))
    print(text)
    if options.policy:
        print(under_another_policy(row, Rules.of(policy_of(options.policy)), options.policy))
    return 0 if same else 1


def check_policy(options: argparse.Namespace) -> int:
    """Loads it as a task would, the table of autonomous systems as well."""
    paths = [Path(file) for file in options.files.split(":")] if options.files else settings.policy_files()
    try:
        policy = load_policy(paths, providers=registry.SERVES["enrich"], controls=registry.controls_by_place())
        asn_table(policy.block)
    except PolicyError as error:
        print(shown_lines(str(error)))
        return 1
    for entry in policy.never_block.expired(settings.now()):
        print(f"expired, and protects nothing any more: never_block.allow: {shown(entry.words)}")
    print(f"valid: {shown(', '.join(map(str, paths)))}")
    return 0


def policy_diff(options: argparse.Namespace) -> int:
    a, b = policy_of(options.a), policy_of(options.b)
    until = options.until or datetime.now(UTC)
    since = options.since or until - timedelta(days=30)
    good = policies.GoodValues.read(Path(options.good)) if options.good else policies.GoodValues()
    ledger = open_ledger(options.ledger)
    archived = (
        run_of(ledger.verdicts.of_run(run_id)) for run_id in ledger.verdicts.deciding_runs(since=since, until=until)
    )
    difference = policies.compare(archived, Rules.of(a), Rules.of(b), good)
    print(policies.render(difference, (options.a, options.b)))
    return 1 if difference.good_hit(difference.b) else 0


def plan_enrichment(options: argparse.Namespace) -> int:
    from include.ops.plan_enrichment import plan

    severity = Severity(options.minimum_severity) if options.minimum_severity else None
    made = plan(
        options.start,
        options.end,
        minimum_severity=severity,
        frozen=options.answers == "frozen",
        # Not one that planning makes: it would be another's green light, and every question would count as never asked.
        open_ledger=lambda: open_ledger(None),
    )
    print(made.render())
    return 0


def answers_diff(options: argparse.Namespace) -> int:
    changes = open_ledger(options.ledger).answers.changes(options.since, options.until or datetime.now(UTC))
    print(answers.render(changes))
    return 0


def cancelled(options: argparse.Namespace) -> int:
    in_force.protected(open_ledger(options.ledger))
    return 0


def blocks(options: argparse.Namespace) -> int:
    ledger = open_ledger(options.ledger)
    if options.control not in (None, *groups.controls()):
        raise CannotAnswer(f"there is no control {shown(options.control)}")
    if options.check:
        return in_force.check(ledger, control=options.control)
    in_force.show(ledger, control=options.control, as_json=options.json)
    return 0


def block(options: argparse.Namespace) -> int:
    wait = timedelta(seconds=options.wait)
    return by_hand.block(options.value, options.duration, options.reason, rung=options.rung, wait=wait)


def lift(options: argparse.Namespace) -> int:
    return by_hand.lift(options.value, options.reason, wait=timedelta(seconds=options.wait))


def allow(options: argparse.Namespace) -> int:
    if options.end:
        return by_hand.end_allowance(options.value, options.reason)
    if options.until is None:
        raise CannotAnswer("--until: an entry without an end is the policy's (never_block.allow)")
    if options.until <= settings.now():
        raise CannotAnswer(f"--until: {options.until:%Y-%m-%d %H:%M} UTC is past")
    wait = timedelta(seconds=options.wait)
    return by_hand.allow(options.value, options.until, options.owner, options.reason, wait=wait)


def verify_audit(options: argparse.Namespace) -> int:
    ledger = open_ledger(options.ledger)
    problems = [*ledger.actions.verify(), *ledger.allows.verify()]
    print(f"action_events: {ledger.actions.head()}\nallows: {ledger.allows.head()}")
    if options.head:
        number = ledger.actions.number_of(options.head.lower())
        if number is None:
            problems.append(f"action_events: no row has the hash {shown(options.head)}: the chain was made anew")
        else:
            print(f"the hash {shown(options.head)} is that of row {number}")
    for problem in problems:
        print(shown(problem))
    print(f"{len(problems)} problems" if problems else "intact")
    return 1 if problems else 0


def export(options: argparse.Namespace) -> int:
    ledger = open_ledger(options.ledger)
    ledger.close()
    write_table(ledger.database.url, options.table, options.since, options.until, form=options.format, to=sys.stdout)
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "explain": explain,
    "check-policy": check_policy,
    "policy-diff": policy_diff,
    "plan-enrichment": plan_enrichment,
    "answers-diff": answers_diff,
    "blocks": blocks,
    "block": block,
    "lift": lift,
    "allow": allow,
    "cancelled": cancelled,
    "verify-audit": verify_audit,
    "export": export,
}


def run(options: argparse.Namespace) -> int:
    """
    The exit code. The answer goes to standard output, one line about what went wrong to standard error.

    :param options: as Airflow's parser gives them; ``subcommand`` is the command's name
    """
    try:
        return COMMANDS[options.subcommand](options)
    except VendorError as error:
        problem = one_line(f"{error.vendor} {error.operation}: {error.reason}")
    except SQLAlchemyError as error:
        # Its text may hold the URL; its kind is enough to go on with.
        problem = f"the ledger cannot be read: {type(error).__name__}"
    except (CannotAnswer, PolicyError, ReplayError, OSError, ValueError) as error:
        problem = shown_lines(str(error))
    print(problem, file=sys.stderr)
    return 2


def main(options: argparse.Namespace) -> NoReturn:
    """A command in a process of its own. Airflow ignores what a command returns, so it ends by ``sys.exit``."""
    # As `airflow connections get` does: connections are then looked up in Airflow's database as well.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    from airflow.sdk.log import configure_logging

    # Standard output is the answer's, which may be piped on.
    configure_logging(log_level="WARNING", output=sys.stderr)
    sys.exit(run(options))
