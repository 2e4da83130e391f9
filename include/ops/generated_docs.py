"""Parts of the documents that follow from the code. Each stands between two markers, and a test compares it.

``python -m include.ops.generated_docs`` writes them anew.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterable
from itertools import groupby, takewhile
from pathlib import Path

from include.soar.judge.refusals import REFUSALS
from threat_response.config import CONFIG, SECTION
from threat_response.registry import SERVES, vendors_of
from threat_response.transport.form import vendor_of

ROOT = Path(__file__).resolve().parents[2]

_TRIES = re.compile(r"tried \d+ times")


def refusals_table() -> str:
    """Every rule by which an indicator is refused, in the order in which the rules are asked."""
    lines = ["| # | Rule | An observable is refused when |", "|---|---|---|"]
    for number, rule in enumerate(REFUSALS, 1):
        sentence = (rule.__doc__ or "").strip().splitlines()[0].rstrip(".")
        lines.append(f"| {number} | {rule.__name__.replace('_', ' ')} | {sentence[0].lower()}{sentence[1:]} |")
    return "\n".join(lines)


def options_table() -> str:
    """The options of our section of Airflow's configuration."""
    rows = ["| Option | Default | Means |", "|---|---|---|"]
    for name, option in CONFIG[SECTION]["options"].items():
        example = f" E.g. `{option['example']}`" if option["example"] else ""
        default = f"`{option['default']}`" if option["default"] else "empty"
        rows.append(f"| `{name}` | {default} | {option['description']}{example} |")
    return "\n".join(rows)


#: Of a table in the README's excerpt of an incident, and the longest cell.
COLUMNS, WIDTH = 6, 42

#: What each wing and room is for, by the last part of its module's name.
ROOMS = {
    "cli": "`airflow threat-response …`",
    "groups": "the stages that several vendors serve, as groups of tasks",
    "provider_info": "what Airflow's provider discovery asks for",
    "warm": "what is imported before tasks are forked",
    "registry": "which vendor serves which stage: one name each",
    "vendors": "a folder for each product: declaration, client, what differs from the stage",
    "stages": "a file for each stage, named as its task",
    "transport": "how a vendor is reached: connection, HTTP, errors, retries, downloads",
    "runtime": "what a running task has: settings, the run's window and effects",
    "config": "the options of `[threat_response]`",
    "ledger": "our memory, a database",
    "incident": "the incident's texts, as templates",
    "in_force": "what becomes of each block that is in force",
    "judge": "verdict, refusals, caps, decision",
    "enrich": "what to ask whom, within which quota",
    "policy": "what the SOC decides, and how its file is read",
    "gate": "what is never blocked",
    "extract": "observables out of records",
    "vendor": "a vendor's errors, and the shapes of its answers",
    "window": "from when to when a run reads",
    "model": "the words that all others share",
}


def rooms_picture() -> str:
    """The wings and rooms, from the top down, as import-linter's contracts of layers have them."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    wings, core = (contract["layers"] for contract in linter["contracts"] if contract["type"] == "layers")
    lines = ["```text", f"{'dags/':<28}  the workflow, which reads like the runbook", "plugins/threat_response/"]
    lines += [_room(module) for layer in wings for module in layer.split(" | ")]
    lines += ["include/soar/", *(_room(module) for module in core)]
    return "\n".join([*lines, "```"])


def _room(module: str) -> str:
    name = module.rpartition(".")[2]
    return f"    {name:<24}  {ROOMS[name]}"


#: Stage of the registry -> its number, its name for a reader, and the batch that each of its tasks gives.
STAGES = {
    "fetch": ("1", "fetch", "FetchBatch"),
    "enrich": ("3", "enrich", "ReputationBatch"),
    "incidents": ("4, 5, 9", "open_incidents, relate, update_incidents", "IncidentBatch, RelationBatch"),
    "block.waf": ("6", "block.waf", "ActionBatch"),
    "block.edr": ("7", "block.edr", "ActionBatch"),
    "watch": ("8", "watch", "ActionBatch"),
}


def stages_table() -> str:
    """Which vendors serve which stage, and what its tasks give."""
    lines = ["| # | Tasks | Vendors | Each gives |", "|---|---|---|---|"]
    for stage, names in SERVES.items():
        number, tasks, batch = STAGES.get(stage, ("", stage, ""))
        batches = ", ".join(f"`{name}`" for name in batch.split(", ") if name)
        lines.append(f"| {number} | {tasks} | {', '.join(f'`{name}`' for name in names)} | {batches} |")
    return "\n".join(lines)


def flow_picture() -> str:
    """The tasks of a run and the batches between them, with every provider of the registry: a policy names fewer."""
    local = [name for name in SERVES["enrich"] if not vendor_of(name).is_remote]
    remote = [name for name in SERVES["enrich"] if vendor_of(name).is_remote]
    controls = [stage for stage in SERVES if stage.startswith("block.")]
    lines = ["```mermaid", "flowchart TD", *_group("1 fetch", "fetch", SERVES["fetch"])]
    lines += ['    extract["2 extract"]', '    subgraph s3 ["3 enrich"]']
    lines += [
        f'        refresh["{_names(f"refresh_{name}" for name in vendors_of("refresh"))}"] --> local & remote',
        f'        local["{_names(local)}"]',
        f'        remote["{_names(remote)}"]',
        '        local -. "what lists name is asked first" .-> remote',
        "    end",
        '    decide["decide"]',
        '    open["4 open_incidents"]',
        '    plan["plan_blocks"]',
        '    relate["5 relate"]',
        '    subgraph block ["block"]',
        *(
            f"    {line}"
            for stage in controls
            for line in _group(f"{STAGES[stage][0]} {stage[6:]}", stage, SERVES[stage])
        ),
        "    end",
        *_group("8 watch", "watch", SERVES["watch"]),
        '    update["9 update_incidents"]',
        '    approve{{"approve_blocks"}}',
        '    approved["6 to 9 once more, for what was approved"]',
        '    red["fail_the_run"]',
        "",
        "    fetch -- FetchBatch --> extract",
        "    extract -- CaseBatch --> s3 & decide & open",
        "    s3 -- ReputationBatch --> decide",
        "    decide -- Decision --> open & relate & plan",
        "    plan -- Decision --> block & watch & update & approve",
        "    open -- IncidentBatch --> relate & block & watch & update & approve",
        "    relate -- RelationBatch --> update",
        "    block & watch -- ActionBatch --> update",
        "    approve -- Decision --> approved",
        '    update -. "any failed task" .-> red',
    ]
    return "\n".join([*lines, "```"])


def _names(names: Iterable[str]) -> str:
    return "<br/>".join(names)


def _group(title: str, stage: str, vendors: Iterable[str]) -> list[str]:
    """A stage's tasks in a frame; where a write takes time to be in force, with the task that waits for it."""
    lines = [f'    subgraph {stage.replace(".", "_")} ["{title}"]']
    for name in vendors:
        task = f'        {name}["{name}"]'
        waits = stage.startswith("block.") and vendor_of(name).confirms
        lines.append(f'{task} -- ActionBatch --> {name}_active["{name}_active"]' if waits else task)
    return [*lines, "    end"]


def incident_excerpt() -> str:
    """The title and the beginning of the report of ``docs/pictures/incident.txt``, as aligned columns."""
    text = (ROOT / "docs/pictures/incident.txt").read_text(encoding="utf-8")
    report = takewhile(lambda line: line != "Found", text.partition("\nCOMMENT\n\n")[2].splitlines())
    lines = [text.partition("\n")[0], ""]
    for columns, group in groupby(report, key=lambda line: line.count("|")):
        rows = [[cell.strip() for cell in line.split("|")][:COLUMNS] for line in group]
        if columns:
            rows = [[cell if len(cell) <= WIDTH else f"{cell[: WIDTH - 1]}…" for cell in row] for row in rows]
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(["```text", *lines, "```"])


#: Document -> name of the part between its markers -> what the part is.
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"incident": incident_excerpt, "rooms": rooms_picture},
    "docs/dataflow.md": {"flow": flow_picture, "stages": stages_table, "refusals": refusals_table},
    "docs/deployment.md": {"options": options_table},
}
#: The document that says how often the DAG's tasks are tried.
RUNBOOK = "docs/runbook.md"


def with_parts(text: str, parts: dict[str, Callable[[], str]]) -> str:
    """
    A document with its generated parts as they are now.

    :raises ValueError: a marker is missing
    """
    for name, make in parts.items():
        start, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            raise ValueError(f"there must be one {start} and one {end}")
        before, _, rest = text.partition(start)
        after = rest.partition(end)[2]
        text = f"{before}{start}\n{make()}\n{end}{after}"
    return text


def with_tries(text: str, retries: int) -> str:
    """
    A document whose sentence about tries has the DAG's number: the first try and its ``retries``.

    :raises ValueError: there is no such sentence, or several
    """
    made, found = _TRIES.subn(f"tried {retries + 1} times", text)
    if found != 1:
        raise ValueError(f"the document says {found} times how often a task is tried, instead of once")
    return made


def main() -> int:
    from dags.api_threat_response import api_threat_response  # Airflow: where the documents are written only

    for name, parts in PARTS.items():
        path = ROOT / name
        path.write_text(with_parts(path.read_text(encoding="utf-8"), parts), encoding="utf-8")
    runbook = ROOT / RUNBOOK
    retries = api_threat_response().default_args["retries"]
    runbook.write_text(with_tries(runbook.read_text(encoding="utf-8"), retries), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
