"""What ``decide`` costs: its seconds for a large window, and how often one address changes the source file on its way.

``python -m include.bench.decide_path [TREE …]`` measures this checkout, and in the same call other checkouts of the
project (each with its own ``.venv``), so that a change can be compared with what was before it. The DAG's own task is
run, whatever it is made of; case and answers are made here, and are the same JSON for every tree.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from types import FrameType, SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
END = datetime(2026, 11, 24, 12, tzinfo=UTC)
FINDINGS, HIGH, ROUNDS = 1012, 50, 5


def report(trees: Sequence[Path] = (), *, findings: int = FINDINGS, rounds: int = ROUNDS) -> str:
    """A table with one row for each tree, this one last."""
    from include.bench.measure import table

    measured = measure(trees, findings=findings, rounds=rounds)
    return table(
        f"1h. Deciding: a window of {findings:,} findings, and the way of one address",
        ("tree", "seconds", "its own", "in the ledger", "changes of file", "with one", "with two", "one causes"),
        [
            (tree.name, one["seconds"], one["own"], one["ledger"], *one["changes"], caused_by_one(one))
            for tree, one in measured.items()
        ],
        f"CPU seconds, median of {rounds} runs of the DAG's own task, each on an empty SQLite ledger.",
        "Changes of file: calls of project code whose file is not that of the call before, in one whole task, for one",
        "finding with no, one or two addresses that two sources list, warm. One address causes the difference to none.",
    )


def measure(trees: Sequence[Path] = (), *, findings: int = FINDINGS, rounds: int = ROUNDS) -> dict[Path, Any]:
    """Of each tree, this one last: ``seconds``, ``own``, ``ledger``, and ``changes`` for 0, 1 and 2 addresses."""
    with tempfile.TemporaryDirectory(prefix="threat-response-bench-") as folder:
        given = Path(folder) / "given.json"
        document = {"large": _window(findings), "few": [_addresses(number) for number in range(3)], "rounds": rounds}
        given.write_text(json.dumps(document), encoding="utf-8")
        return {tree: _run(tree, given) for tree in (*trees, ROOT)}


def caused_by_one(measured: dict[str, Any]) -> int:
    none, one, _ = measured["changes"]
    return int(one - none)


def _window(findings: int) -> dict[str, Any]:
    """The demo day's findings as one case, and what two of the sources say about each value."""
    from include.bench.evaluation import findings_of_day
    from include.bench.load import build_load
    from include.soar.extract.case import case_of
    from include.soar.model import FetchBatch, Window

    found = tuple(findings_of_day(build_load(END, findings=findings, high=HIGH)))
    window = Window(start_at=END - timedelta(hours=24), end_at=END, chosen_by="bench")
    batch = FetchBatch(
        source="bench", window=window, pages=1, records=len(found), archive=(), digest="", findings=found
    )
    return _with_answers(case_of([batch]).to_json())


def _addresses(number: int) -> dict[str, Any]:
    from include.soar.extract.case import case_of
    from include.soar.model import FetchBatch, Finding, Mention, Role, Severity, Window

    text = " ".join(f"203.0.113.{7 + n}" for n in range(number))
    window = Window(start_at=END - timedelta(hours=1), end_at=END, chosen_by="bench")
    finding = Finding(
        uid="f1",
        source="akamai_api_security",
        vendor_id="v1",
        title="SQL injection",
        severity=Severity.HIGH,
        detected_at=END - timedelta(minutes=30),
        mentions=(Mention(field="attacker.IP", role=Role.ATTACKER, text=text),),
    )
    batch = FetchBatch(source="bench", window=window, pages=1, records=1, archive=(), digest="", findings=(finding,))
    return _with_answers(case_of([batch]).to_json())


def _with_answers(case: dict[str, Any]) -> dict[str, Any]:
    """Every third value is listed by both sources, the others by none; few values are all listed."""
    answers = {}
    for provider in ("abuseipdb", "list_feed"):
        said = []
        for number, item in enumerate(case["observed"]):
            score = 0 if number % 3 and number > 2 else 100
            answer = "listed" if score else "not_listed"
            about = {"observable": item["observable"], "provider": provider, "known_at": END.isoformat()}
            said.append({**about, "answer": answer, "score": score})
        answers[provider] = {"provider": provider, "reputations": said}
    return {"case": case, "answers": answers}


def _run(tree: Path, given: Path) -> dict[str, Any]:
    python = tree / ".venv/bin/python"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "THREAT_"))}
    with tempfile.TemporaryDirectory(prefix="threat-response-bench-") as home:
        environment |= {
            "PYTHONPATH": f"{tree}:{tree / 'plugins'}",
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "AIRFLOW__THREAT_RESPONSE__POLICY": ":".join(
                str(tree / "include/config" / name) for name in ("policy.yaml", "policy.demo.yaml")
            ),
        }
        command = [str(python if python.exists() else sys.executable), str(Path(__file__)), "--work", str(given)]
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{tree}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# --- in the process of the tree that is measured ------------------------------------------------------------------


def work(given: Path) -> dict[str, Any]:
    """Run the DAG's own task. Nothing of this package is imported: the tree may be an older one."""
    document = json.loads(given.read_text(encoding="utf-8"))
    ledger_clock = _LedgerClock()
    totals, own = [], []
    for _ in range(document["rounds"]):
        with _empty_home():
            decide = _task(document["large"])
            with ledger_clock.running():
                started_at = time.process_time()
                decide()
                totals.append(time.process_time() - started_at)
            own.append(totals[-1] - ledger_clock.seconds)
    changes = []
    for given_few in document["few"]:
        with _empty_home():
            _task(given_few)()  # what is made once in a process is made
        with _empty_home():
            counter = _FileChanges(Path.cwd())
            _task(given_few, run=counter.count)()
            changes.append(counter.changes)
    return {
        "seconds": median(totals),
        "own": median(own),
        "ledger": median(totals) - median(own),
        "changes": changes,
    }


@contextmanager
def _empty_home() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="threat-response-bench-") as home:
        os.environ["AIRFLOW__THREAT_RESPONSE__HOME"] = home
        _settings().ledger().close()  # makes its tables
        yield


def _settings() -> Any:
    """The module of the tree that gives clock, policy and ledger, whatever it is called."""
    _dag()
    wanted = {"now", "policy", "ledger", "connection_exists"}
    return next(
        module
        for module in list(sys.modules.values())
        if wanted <= vars(module).keys() and str(getattr(module, "__file__", "")).startswith(str(Path.cwd()))
    )


def _task(
    given: dict[str, Any], *, run: Callable[[Callable[[], object]], object] = lambda call: call()
) -> Callable[[], object]:
    """The DAG's task that decides, with this case and these answers, as a call."""
    from airflow.sdk.execution_time.context import set_current_context

    dag = _dag()
    task = dag.get_task("decide" if "decide" in dag.task_ids else "enrich.decide")  # its name in older trees
    settings = _settings()
    settings.now = lambda: END
    context: Any = {
        "dag_run": SimpleNamespace(dag_id="d", run_id="r", run_type="scheduled", run_after=END, start_date=END),
        "params": {},
        "ti": SimpleNamespace(xcom_push=lambda **_: None),
    }
    case, answers = json.loads(json.dumps([given["case"], given["answers"]]))

    if hasattr(task, "python_callable"):
        call = partial(task.python_callable, case, answers)
    else:
        task.case, task.answers = case, answers
        call = partial(task.execute, context)

    def done() -> object:
        with set_current_context(context):
            return run(call)

    return done


_DAGS: list[Any] = []


def _dag() -> Any:
    if not _DAGS:
        from airflow.sdk import DAG

        made = runpy.run_path("dags/api_threat_response.py")
        _DAGS.extend(value for value in made.values() if isinstance(value, DAG))
        if not _DAGS:
            from airflow.dag_processing.dagbag import DagBag

            _DAGS.append(DagBag(dag_folder="dags/api_threat_response.py").dags["api_threat_response"])
    return _DAGS[0]


class _LedgerClock:
    """The time spent below the ledger's public methods, however the ledger is cut."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        import include.soar.ledger  # noqa: F401

        classes = {
            value
            for module in list(sys.modules.values())
            if getattr(module, "__name__", "").startswith("include.soar.ledger")
            for value in vars(module).values()
            if isinstance(value, type) and value.__module__.startswith("include.soar.ledger")
        }
        for kind in classes:
            for name, method in list(vars(kind).items()):
                if callable(method) and not name.startswith("_") and not isinstance(method, type):
                    setattr(kind, name, self._timed(method))

    @contextmanager
    def running(self) -> Iterator[None]:
        self.seconds = 0.0
        yield

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            started_at = time.process_time()
            try:
                return method(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.process_time() - started_at

        return timed


class _FileChanges:
    """Counts the calls of project code whose file is not that of the call before."""

    def __init__(self, tree: Path) -> None:
        self.changes = 0
        self._last = ""
        self._parts = tuple(str(tree / part) + os.sep for part in ("include/soar", "plugins", "dags"))

    def count(self, call: Callable[[], object]) -> object:
        sys.setprofile(self._seen)
        try:
            return call()
        finally:
            sys.setprofile(None)

    def _seen(self, frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name != self._last and name.startswith(self._parts):
            self._last = name
            self.changes += 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m include.bench.decide_path", description=__doc__)
    parser.add_argument("trees", nargs="*", type=Path, metavar="TREE", help="other checkouts, measured first")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        sys.path.pop(0)  # this folder: the tree's packages come by PYTHONPATH
        print(json.dumps(work(options.work)))
    else:
        print(report([tree.resolve() for tree in options.trees]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
