"""The operator's commands as Airflow's own parser reads them."""

from __future__ import annotations

from airflow.cli.cli_parser import get_parser

from include.ops import commands


def main(words: list[str] | tuple[str, ...]) -> int:
    """``airflow threat-response WORDS``, without the process that it is otherwise; the exit code."""
    return commands.run(get_parser().parse_args(["threat-response", *words]))
