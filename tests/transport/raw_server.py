"""A server on a plain socket, for what no HTTP server does: it hangs up, drips, or speaks another language."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

#: What a server does with one connection; it is closed afterwards.
Serve = Callable[[socket.socket, threading.Event], None]


@contextmanager
def raw_server(serve: Serve) -> Iterator[int]:
    """The port on which each connection is handed to ``serve``, with an event that says that the test is over."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def one(line: socket.socket) -> None:
        with suppress(OSError), line:
            serve(line, over)

    def accept() -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(line,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        over.set()
        # A close alone would not wake the thread that waits in accept.
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def close_at_once(line: socket.socket, over: threading.Event) -> None:
    """As a server that is being restarted."""


def close_after_hello(line: socket.socket, over: threading.Event) -> None:
    line.recv(65_536)


def alert(number: int) -> Serve:
    """Answers with a TLS alert, e.g. 80 internal_error, 40 handshake_failure."""

    def serve(line: socket.socket, over: threading.Event) -> None:
        line.recv(65_536)
        line.sendall(bytes([21, 3, 3, 0, 2, 2, number]))

    return serve


def say(answer: bytes) -> Serve:
    def serve(line: socket.socket, over: threading.Event) -> None:
        line.recv(65_536)
        line.sendall(answer)

    return serve


def drip(start: bytes, drop: bytes) -> Serve:
    """Sends ``start``, and then ``drop`` every 50 ms for as long as somebody listens."""

    def serve(line: socket.socket, over: threading.Event) -> None:
        line.recv(65_536)
        line.sendall(start)
        while not over.wait(0.05):
            line.sendall(drop)

    return serve


def tunnel(then: Serve) -> Serve:
    """A proxy that says yes to CONNECT, and then is the host itself."""

    def serve(line: socket.socket, over: threading.Event) -> None:
        line.recv(65_536)
        line.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        then(line, over)

    return serve
