"""
``python -m include.ops explain OBSERVABLE``    why was this judged so (``make explain OBSERVABLE=…``)
``python -m include.ops policy-diff A B``       what would another policy have blocked (``make policy-diff A=… B=…``)
``python -m include.ops answers-diff --from A``  what do the sources say now that they did not say then
``python -m include.ops cancelled``             what is in force though a later never-block entry protects it: lift it
``python -m include.ops new-vendor NAME``       a new enrichment provider's files (``make new-vendor NAME=…``)
``python -m include.ops vendor-table``          the README's table of connections

The first four read the ledger and write nothing to it. Policies are files, ``:``-separated, later ones laid over
earlier ones.

Exit codes: 0; 1 explain: the stored verdict is not what its inputs give, policy-diff: B hits something known to be
good, vendor-table: the README's is another one; 2 the question cannot be answered, or nothing was written.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from include.ops.answers_diff import render as render_answers
from include.ops.explain import explanation, under_another_policy
from include.ops.new_vendor import ROOT, scaffold
from include.ops.policy_diff import GoodValues, compare, render
from include.ops.replay import ReplayError, Rules, run_of
from include.ops.text import shown
from include.ops.vendor_table import vendor_table, with_table
from include.soar.extract.refang import refang
from include.soar.extract.values import KINDS, parse_any
from include.soar.gate.index_file import shipped
from include.soar.ledger import Ledger, SQLAlchemyError
from include.soar.model import Observable, Outcome
from include.soar.policy.file import load_policy
from include.soar.policy.rules import Policy, PolicyError

DEFAULT_POLICY = Path(__file__).resolve().parents[1] / "config/policy.yaml"


class CannotAnswer(ValueError):
    """The question cannot be answered; the message says why."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m include.ops", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    ledger = argparse.ArgumentParser(add_help=False)
    ledger.add_argument(
        "--ledger",
        metavar="URL",
        help="SQLAlchemy URL (default: the SQLite file in THREAT_RESPONSE_HOME). Leave a password out of it and in "
        "PGPASSWORD: other users of the machine can read a command line",
    )
    explain = commands.add_parser("explain", parents=[ledger], help="why a value was judged as it was")
    explain.add_argument("observable", help="an address, domain, URL, hash…; defanged or not")
    explain.add_argument("--at", type=_instant, metavar="INSTANT", help="the verdict of that time (default: the last)")
    explain.add_argument("--policy", metavar="FILE[:FILE]", help="also say what this policy would change")
    diff = commands.add_parser("policy-diff", parents=[ledger], help="archived decisions under two policies")
    diff.add_argument("a", metavar="A", help="FILE[:FILE]; `current` is what THREAT_RESPONSE_POLICY names")
    diff.add_argument("b", metavar="B")
    diff.add_argument("--from", dest="since", type=_instant, metavar="INSTANT", help="default: 30 days ago")
    diff.add_argument("--to", dest="until", type=_instant, metavar="INSTANT", help="default: now")
    diff.add_argument("--good", type=Path, metavar="FILE", help="more values known to be good, one a line")
    answers = commands.add_parser("answers-diff", parents=[ledger], help="answers of the sources at two times")
    answers.add_argument("--from", dest="since", type=_instant, metavar="INSTANT", required=True)
    answers.add_argument("--to", dest="until", type=_instant, metavar="INSTANT", help="default: now")
    commands.add_parser("cancelled", parents=[ledger], help="what a later never-block entry speaks against")
    vendor = commands.add_parser("new-vendor", help="write a new enrichment provider that runs at once")
    vendor.add_argument("name", metavar="NAME", help="its folder, connection type and task, e.g. acme_intel")
    vendor.add_argument("--to", type=Path, metavar="FOLDER", default=ROOT, help="another copy of this project")
    table = commands.add_parser("vendor-table", help="the README's table of connections; says whether it is current")
    table.add_argument("--write", action="store_true", help="put it into the README")
    return parser.parse_args(given)


def _instant(text: str) -> datetime:
    """``2026-11-24``, ``2026-11-24T12:00Z``. Without an offset it is UTC."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an instant such as 2026-11-24T12:00Z") from None
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


def observable_of(text: str) -> Observable:
    """One value as a person writes or pastes it, defanged or not. :raises CannotAnswer: it is none"""
    plain = refang(text.strip())
    if found := parse_any(plain):
        return found
    *words, last = dict.fromkeys(kind.words for kind in KINDS.values())
    raise CannotAnswer(f"{shown(text)} is no {', '.join(words)} or {last}")


def open_ledger(url: str | None) -> Ledger:
    """:raises CannotAnswer: there is none at that place: asking must not make one"""
    if url is None:
        home = os.environ.get("THREAT_RESPONSE_HOME")
        folder = Path(home) if home else Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
        url = f"sqlite:///{(folder if home else folder / 'threat-response') / 'ledger.db'}"
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise CannotAnswer(f"there is no ledger at {url}: give --ledger, or THREAT_RESPONSE_HOME")
    return Ledger(url)


def policy_of(files: str) -> Policy:
    if files == "current":
        files = os.environ.get("THREAT_RESPONSE_POLICY") or str(DEFAULT_POLICY)
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


def policy_diff(options: argparse.Namespace) -> int:
    a, b = policy_of(options.a), policy_of(options.b)
    until = options.until or datetime.now(UTC)
    since = options.since or until - timedelta(days=30)
    good = GoodValues.read(options.good) if options.good else GoodValues()
    ledger = open_ledger(options.ledger)
    archived = (
        run_of(ledger.verdicts.of_run(run_id)) for run_id in ledger.verdicts.deciding_runs(since=since, until=until)
    )
    difference = compare(archived, Rules.of(a), Rules.of(b), good)
    print(render(difference, (options.a, options.b)))
    return 1 if difference.good_hit(difference.b) else 0


def new_vendor(options: argparse.Namespace) -> int:
    for path in scaffold(options.name, options.to):
        print(path.relative_to(options.to))
    print("docs/add-a-vendor.md goes on from here: `CHANGE:` marks what is the vendor's.")
    return 0


def show_vendor_table(options: argparse.Namespace) -> int:
    readme, table = ROOT / "README.md", vendor_table(ROOT)
    text = readme.read_text("utf-8")
    current = with_table(text, table)
    if options.write:
        readme.write_text(current, "utf-8")
        return 0
    print(table, end="")
    return 0 if current == text else 1


def answers_diff(options: argparse.Namespace) -> int:
    print(
        render_answers(open_ledger(options.ledger).answers.changes(options.since, options.until or datetime.now(UTC)))
    )
    return 0


def cancelled(options: argparse.Namespace) -> int:
    rows = [row for row in open_ledger(options.ledger).actions.rows() if row.outcome == Outcome.CANCELLED]
    for row in rows:
        proof = ", ".join(f"{name} {value}" for name, value in sorted(row.proof.items()) if value is not None)
        print(f"{shown(row.observable)} at {row.control}: {shown(row.detail)}; {shown(proof) or 'no proof'}")
    print(f"{len(rows)} to be lifted, see docs/runbook.md" if rows else "nothing is to be lifted")
    return 0


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    try:
        commands = {
            "explain": explain,
            "policy-diff": policy_diff,
            "answers-diff": answers_diff,
            "cancelled": cancelled,
            "new-vendor": new_vendor,
            "vendor-table": show_vendor_table,
        }
        return commands[options.command](options)
    except (CannotAnswer, PolicyError, ReplayError, OSError, ValueError) as error:
        print(shown(str(error)), file=sys.stderr)
    except SQLAlchemyError as error:
        # Its text may hold the URL; its kind is enough to go on with.
        print(f"the ledger cannot be read: {type(error).__name__}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
