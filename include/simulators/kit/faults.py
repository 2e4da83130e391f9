"""Misbehaviour on demand: what it is, which request it hits, and the one fault that ends a process."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

import psutil

Scope = MutableMapping[str, Any]
FAULT_KINDS = frozenset(
    {
        "status",
        "html",
        "truncate",
        "empty",
        "merge",
        "delay",
        "reset",
        "hang_after_commit",
        "reset_after_commit",
        "kill_client_after_commit",
    }
)


@dataclass
class Fault:
    """
    One misbehaviour, for requests to ``product`` that match.

    :param product: simulator's name
    :param kind: ``status`` (answer with ``status`` in the vendor's error shape, state untouched), ``html`` (a
        proxy's HTML page with ``status``), ``truncate`` (the right answer cut in half, status 200, valid
        Content-Length), ``empty`` (empty the array ``key`` of the right JSON answer), ``merge`` (RFC 7386 merge
        of ``patch`` into the right JSON answer), ``delay`` (wait ``seconds`` first), ``reset`` (drop the
        connection before handling), and three that let the write happen first: ``hang_after_commit`` (then
        wait ``seconds``), ``reset_after_commit`` (then drop the connection), ``kill_client_after_commit``
        (then SIGKILL the process at the other end, only if it is ``ancestor_pid`` or descends from it)
    :param method: exact method, or None for any
    :param path: regular expression searched in the path
    :param body: substring of the request body, or None for any
    :param times: how many matching requests it hits; -1 for ever
    :param skip: how many matching requests pass unharmed first
    """

    product: str
    kind: str
    method: str | None = None
    path: str = ""
    body: str | None = None
    times: int = 1
    skip: int = 0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    detail: str | None = None
    key: str = ""
    patch: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    ancestor_pid: int | None = None
    hits: int = 0

    def __post_init__(self) -> None:
        if self.kind not in FAULT_KINDS:
            raise ValueError(f"fault kind {self.kind!r} is not one of {sorted(FAULT_KINDS)}")

    def matches(self, product: str, method: str, path: str, body: bytes) -> bool:
        return (
            self.times != 0
            and product == self.product
            and (self.method is None or method == self.method)
            and re.search(self.path, path) is not None
            and (self.body is None or self.body.encode() in body)
        )


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def kill_client(scope: Scope, ancestor_pid: int | None) -> int:
    """
    SIGKILL the process that holds the other end of this connection.

    :raises RuntimeError: when it is not ``ancestor_pid`` or one of its descendants, so that a fault can only
        ever end a process that the test itself started.
    """
    if not ancestor_pid:
        raise RuntimeError("kill_client_after_commit needs ancestor_pid")
    port = scope["client"][1]
    family = [psutil.Process(ancestor_pid), *psutil.Process(ancestor_pid).children(recursive=True)]
    for process in family:
        if process.pid == os.getpid():
            continue
        try:
            connections = process.net_connections(kind="tcp")
        except psutil.Error:
            continue
        if any(c.laddr and c.laddr.port == port and c.status != psutil.CONN_LISTEN for c in connections):
            os.kill(process.pid, signal.SIGKILL)
            return process.pid
    raise RuntimeError(f"no descendant of {ancestor_pid} holds port {port}")
