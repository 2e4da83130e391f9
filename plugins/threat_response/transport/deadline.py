"""
A time for a whole exchange. A time-out of requests is for each wait for bytes: a server that sends one byte a second,
in its handshake, header or body, would keep a task for ever.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from threading import Event, Lock, Timer
from typing import Any

from requests.adapters import HTTPAdapter
from requests_toolbelt.adapters.socket_options import TCPKeepAliveAdapter  # type: ignore[import-untyped]


class Deadline:
    """Cuts the line of one exchange when its time is up. ``passed`` is then set."""

    def __init__(self) -> None:
        self.passed = Event()
        self._line: socket.socket | None = None
        self._lock = Lock()

    def watch(self, line: socket.socket) -> None:
        """:param line: what the exchange talks over from now on"""
        # A socket of our own for the same line: that of the exchange is replaced during a TLS handshake.
        with suppress(OSError), self._lock:
            self._close()
            self._line = socket.fromfd(line.fileno(), line.family, line.type)
            if self.passed.is_set():
                self._line.shutdown(socket.SHUT_RDWR)

    def pass_(self) -> None:
        with self._lock:
            self.passed.set()
            if self._line is not None:
                with suppress(OSError):  # the other end was faster
                    self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


_CURRENT: ContextVar[Deadline | None] = ContextVar("deadline of this thread's exchange", default=None)


@contextmanager
def within(seconds: float) -> Iterator[Deadline]:
    """End what is sent and read inside, by this thread through a :class:`WatchedAdapter`, after so many seconds."""
    deadline = Deadline()
    timer = Timer(seconds, deadline.pass_)
    timer.daemon = True
    token = _CURRENT.set(deadline)
    timer.start()
    try:
        yield deadline
    finally:
        timer.cancel()
        _CURRENT.reset(token)
        deadline.close()


class WatchedAdapter(TCPKeepAliveAdapter):
    """requests' adapter, whose connections tell the exchange's deadline which line they use."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _watched(pool.ConnectionCls)
        return pool


def adapter() -> HTTPAdapter:
    """With the values of Airflow's own HTTP hook: a middle box forgets a line that is silent for long."""
    made: HTTPAdapter = WatchedAdapter(idle=120, count=20, interval=30)
    return made


@cache
def _watched(kind: Any) -> Any:
    if getattr(kind, "is_watched", False):
        return kind

    class Watched(kind):
        is_watched = True

        def _new_conn(self) -> socket.socket:
            line: socket.socket = super()._new_conn()
            _watch(line)
            return line

        def request(self, *args: Any, **kwargs: Any) -> Any:
            if self.sock is not None:  # kept open since an earlier exchange
                _watch(self.sock)
            return super().request(*args, **kwargs)

    return Watched


def _watch(line: socket.socket) -> None:
    if deadline := _CURRENT.get():
        deadline.watch(line)
