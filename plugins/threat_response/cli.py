"""``airflow threat-response …``: the operator's commands, as the provider gives them to Airflow.

Every ``airflow`` command calls :func:`get_cli_commands`, so nothing but argument definitions is made here; the command
itself is imported when it runs (``include/ops/commands.py``).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from airflow.cli.cli_config import GroupCommand

TABLES = ("actions", "events", "verdicts", "windows", "answers")
RUNGS = ("watch", "detect", "block_short", "block_long")
SEVERITIES = ("informational", "low", "medium", "high", "critical")

_EXIT_CODES = """
Exit codes: 0; 1 explain: the stored verdict is not what its inputs give, policy-diff: B hits something known to be
good, check-policy: the policy is wrong, verify-audit: a row was changed, blocks --check: a control and the ledger
differ, block, lift, allow: not everything was done; 2 the question cannot be answered, or nothing was done.
"""


def instant(text: str) -> datetime:
    """A time on the command line: a date, which means its beginning in UTC, or a time with its zone."""
    from include.soar.window import WindowError, parse_instant

    try:
        return parse_instant(text, "the time")
    except WindowError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def end(text: str) -> datetime:
    """An end on the command line, as in the trigger form: a date counts to the end of its day."""
    from datetime import timedelta

    return instant(text) + timedelta(days=len(text.strip()) == len("2026-01-31"))


def duration(text: str) -> timedelta:
    """A time on the command line: a number with ``m``, ``h`` or ``d``."""
    from datetime import timedelta

    units = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
    try:
        return float(text[:-1]) * units[text[-1:]]
    except (ValueError, KeyError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90m, 4h or 7d") from None


def get_cli_commands() -> list[GroupCommand]:
    from airflow.cli.cli_config import GroupCommand

    from threat_response.warm import warm_if_tasks_fork_here

    # The one function of ours that the scheduler and Celery's worker call before they fork.
    warm_if_tasks_fork_here()
    return [
        GroupCommand(
            name="threat-response",
            help="What is in force and why, what would another policy do; block, lift and allow by hand",
            description="block, lift and allow do what they say, and write down who did it; all others read the ledger "
            "and write nothing to it. INSTANT is a date (its beginning in UTC) or a time "
            "with its zone, such as 2026-01-31T08:00Z.",
            epilog=_EXIT_CODES,
            subcommands=(
                _explain(),
                _check_policy(),
                _policy_diff(),
                _plan_enrichment(),
                _answers_diff(),
                _blocks(),
                _block(),
                _lift(),
                _allow(),
                _cancelled(),
                _verify_audit(),
                _export(),
            ),
        )
    ]


def _explain() -> Any:
    return _command(
        "explain",
        "Why a value was judged as it was",
        (("observable",), {"help": "An address, domain, URL, hash…; defanged or not"}),
        _time("--at", "The verdict of that time (default: the last)"),
        (("--policy",), {"metavar": "FILE[:FILE]", "help": "Also say what this policy would change"}),
        _LEDGER,
    )


def _check_policy() -> Any:
    return _command(
        "check-policy",
        "Whether a policy can be loaded, before it is saved in the place of the present one",
        (("files",), {"metavar": "FILE[:FILE]", "nargs": "?", "help": "Default: the configured policy"}),
    )


def _policy_diff() -> Any:
    return _command(
        "policy-diff",
        "Archived decisions under two policies",
        (("a",), {"metavar": "A", "help": "FILE[:FILE]; `current` is the configured policy"}),
        (("b",), {"metavar": "B", "help": "The same of the other policy"}),
        _time("--from", "Default: 30 days ago", dest="since"),
        _time("--to", "Default: now", dest="until"),
        (("--good",), {"metavar": "FILE", "help": "More values known to be good, one a line"}),
        _LEDGER,
    )


def _plan_enrichment() -> Any:
    return _command(
        "plan-enrichment",
        "What the questions of a backfill would cost, before it is started",
        _time("--from", "Where the first hourly window begins", dest="start", required=True),
        _time("--to", "Where the last one ends", dest="end", required=True),
        (("--minimum-severity",), {"choices": SEVERITIES, "help": "Default: the policy's"}),
        (("--answers",), {"choices": ("fresh", "frozen"), "default": "fresh", "help": "frozen: no provider is asked"}),
    )


def _answers_diff() -> Any:
    return _command(
        "answers-diff",
        "What the sources say now that they did not say then",
        _time("--from", "Then", dest="since", required=True),
        _time("--to", "Now (default: this moment)", dest="until"),
        _LEDGER,
    )


def _cancelled() -> Any:
    return _command("cancelled", "What is in force though a later never-block entry protects it: lift it", _LEDGER)


def _verify_audit() -> Any:
    return _command(
        "verify-audit",
        "Whether a row of the log of actions, or of what people allow, was changed or deleted",
        (("--head",), {"metavar": "HASH", "help": "That this hash, as a task's log noted it, is still in the chain"}),
        _LEDGER,
    )


def _blocks() -> Any:
    return _command(
        "blocks",
        "What is in force, by control: how far, until when, and which incidents tell of it",
        (("--control",), {"metavar": "NAME", "help": "Only at this control, e.g. akamai_client_lists"}),
        (("--json",), {"action": "store_true", "help": "As JSON"}),
        (("--check",), {"action": "store_true", "help": "Read back at the controls, and print what differs"}),
        _LEDGER,
    )


def _block() -> Any:
    return _command(
        "block",
        "Block a value for a time: through the gate, the plan, the proof, and an incident that tells of it",
        _VALUE,
        (
            ("--for",),
            {"dest": "duration", "type": duration, "metavar": "TIME", "required": True, "help": "90m, 4h, 7d"},
        ),
        _REASON,
        (("--rung",), {"choices": RUNGS, "help": "How far (default: a block); watch and detect go no further"}),
        _WAIT,
    )


def _lift() -> Any:
    return _command(
        "lift",
        "Lift what is in force of a value, at every control, now; and remember it until the value is seen again",
        _VALUE,
        _REASON,
        _WAIT,
    )


def _allow() -> Any:
    return _command(
        "allow",
        "Protect a value beside the policy for a time, at once; what is in force of it is lifted",
        _VALUE,
        (
            ("--until",),
            {"type": end, "metavar": "INSTANT", "help": "Its end; a date counts to its end, UTC"},
        ),
        (("--owner",), {"metavar": "NAME", "help": "Who answers for it (default: you)"}),
        _REASON,
        (("--end",), {"action": "store_true", "help": "End the entry now instead"}),
        _WAIT,
    )


def _export() -> Any:
    return _command(
        "export",
        "A table of the ledger as CSV or JSON Lines, on standard output",
        (("table",), {"choices": TABLES, "help": "answers: what the providers said"}),
        (("--format",), {"choices": ("csv", "json"), "default": "csv", "help": "Default: csv, safe for a spreadsheet"}),
        _time("--from", "Rows from here on (default: all)", dest="since"),
        _time("--to", "Rows before this time (default: all)", dest="until"),
        _LEDGER,
    )


_Argument = tuple[tuple[str, ...], dict[str, Any]]

_VALUE: _Argument = (("value",), {"help": "An address, network, domain, URL, hash…; defanged or not"})
_REASON: _Argument = (("--reason",), {"required": True, "metavar": "TEXT", "help": "For the ledger and the incidents"})
_WAIT: _Argument = (
    ("--wait",),
    {
        "type": int,
        "default": 120,
        "metavar": "SECONDS",
        "help": "How long to wait until a network enforces it (default: 120). It is written before",
    },
)
_LEDGER: _Argument = (
    ("--ledger",),
    {
        "metavar": "URL",
        "help": "SQLAlchemy URL (default: the configured ledger). Leave a password out of it and in PGPASSWORD: other "
        "users of the machine can read a command line",
    },
)


def _time(flag: str, help: str, **more: Any) -> _Argument:
    return ((flag,), {"type": instant, "metavar": "INSTANT", "help": help, **more})


def _command(name: str, help: str, *arguments: _Argument) -> Any:
    from airflow.cli.cli_config import ActionCommand, Arg, lazy_load_command

    return ActionCommand(
        name=name,
        help=help,
        func=lazy_load_command("include.ops.commands.main"),
        args=tuple(Arg(flags, **options) for flags, options in arguments),
    )
