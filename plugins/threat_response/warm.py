"""
A warm start: what tasks need is imported once, where Airflow forks them from.

On Linux LocalExecutor's scheduler and Celery's worker fork each task's process, and a fork has its parent's modules.
Without this every task imports the project and half of Airflow again, which takes longer than most of our tasks work.
The price: new code needs a restart of the scheduler and of the workers (docs/deployment.md).

The provider's ``cli`` calls :func:`warm_if_tasks_fork_here`, since every ``airflow`` command calls that once Airflow is
set up and before anything is forked, so nothing needs to be placed in an installation. (``airflow_local_settings`` is
imported while Airflow's own modules are still half imported.) Nothing here may leave a connection, a file or a thread
behind: a fork would share the first two and lose the third.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
import time
from collections.abc import Iterator, Sequence

log = logging.getLogger("threat_response")

#: Read by every task before it comes to ours, and what several of ours import only when they work.
AIRFLOW = (
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.sdk.execution_time.xcom",
    "airflow.sdk.execution_time.cache",
    "airflow.sdk.definitions.decorators",
    "airflow.dag_processing.dagbag",
    "airflow.dag_processing.bundles.local",
    "jinja2.ext",
    "airflow.providers.common.io.xcom.backend",
    "airflow.providers.http.hooks.http",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.operators.hitl",
)
#: Packages of ours that are imported whole.
OURS = ("threat_response", "include.soar")
#: Not for a task: what Airflow's parts read, and what Alembic runs.
LEFT_OUT = ("threat_response.cli", "threat_response.warm", "include.soar.ledger.migrations")


def tasks_fork_here(arguments: Sequence[str], executors: str) -> bool:
    """
    Whether this process is one that tasks are forked from.

    :param arguments: of the ``airflow`` command, without its name
    :param executors: ``[core] executor``
    """
    if arguments[:1] == ["scheduler"]:
        return "LocalExecutor" in executors
    return arguments[:2] == ["celery", "worker"]


def warm_if_tasks_fork_here() -> bool:
    """Whether this process was warmed. Never fails: one that could not be warmed goes on, and its tasks start cold."""
    try:
        from airflow.configuration import conf

        wanted = tasks_fork_here(sys.argv[1:], conf.get("core", "executor"))
        if not wanted or not conf.getboolean("threat_response", "warm_start", fallback=True):
            return False
        warm()
    except Exception:
        log.exception("Tasks start cold")
        return False
    return True


def warm(packages: Sequence[str] = OURS) -> list[str]:
    """Import what tasks need, and read what they all read. Gives the names of what could not be imported."""
    started_at, before, failed = time.monotonic(), len(sys.modules), []
    for name in _modules(packages):
        try:
            importlib.import_module(name)
        except Exception:
            failed.append(name)
            log.exception("Tasks will import %s themselves", name)
    _build_validators()
    _read_files()
    log.info(
        "Imported %d modules for the tasks in %.1f s: new code needs a restart of this process",
        len(sys.modules) - before,
        time.monotonic() - started_at,
    )
    return failed


def _modules(packages: Sequence[str]) -> Iterator[str]:
    yield from AIRFLOW
    for package in packages:
        yield from _below(package)


def _below(name: str) -> Iterator[str]:
    if name in LEFT_OUT:
        return
    yield name
    path = getattr(sys.modules.get(name), "__path__", None)
    for module in pkgutil.iter_modules(path) if path else ():
        yield from _below(f"{name}.{module.name}")


def _build_validators() -> None:
    """Those of the model, which else each task builds where it first needs them."""
    from include.soar.model import Frozen

    for shape in Frozen.__subclasses__():
        shape.model_rebuild()


def _read_files() -> None:
    """The policy and the never-block lists; each is read again by a task once its file was changed."""
    from threat_response.runtime import settings

    try:
        settings.policy_gate()
    except (OSError, ValueError) as error:
        # A policy that is wrong is a task's to report.
        log.warning("Tasks will read the policy themselves: %s", error)
