"""One HTTP exchange: bounded, without redirects, refused in plan mode, and with every fault one of our errors."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import requests
from airflow.sdk.log import mask_secret
from urllib3.util.ssl_match_hostname import CertificateError

from include.soar.vendor.errors import (
    Unauthorized,
    Unavailable,
    Unexpected,
    UntrustedHost,
    VendorError,
    WriteInPlanMode,
    WrongConnection,
)
from include.soar.vendor.redaction import KNOWN
from include.soar.vendor.wire import Request, Response
from threat_response.transport import deadline

#: What requests says about a connection that it cannot even send: asking again would not help.
_NOT_SENDABLE = (
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidProxyURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
)
PIECE_BYTES = 65_536
_DEFAULT_PORTS = {"http": 80, "https": 443}
_CONNECTION_PROBLEMS = (
    ("NameResolutionError", "the host's name is not known"),
    ("Name or service not known", "the host's name is not known"),
    ("Connection refused", "the host refuses the connection"),
    ("RemoteDisconnected", "the host closed the connection without an answer"),
    ("Connection aborted", "the connection was cut"),
    ("Read timed out", "the answer stopped in the middle"),
    ("IncompleteRead", "the answer was cut"),
)


def hide(*secrets: str | None) -> None:
    """
    Keep secrets out of everything that this process tells from now on: masked in its log, also in their
    percent-encoded form, and taken out of every ``VendorError``, whole or cut, in any encoding.
    """
    for secret in secrets:
        if secret:
            KNOWN.add(secret)
            mask_secret(secret)
            if (encoded := quote(secret, safe="")) != secret:
                mask_secret(encoded)


def hide_passing(secret: str) -> None:
    """
    As :func:`hide`, for a request's signature, which dies within the minute: only the newest are remembered, and not
    by Airflow's masker. That one forgets nothing and compiles all of its patterns anew for each, so that the requests
    of a long read would grow slower and slower.
    """
    KNOWN.add(secret, passing=True)


def base_url(host: str | None, port: int | None, *, scheme: str | None = None) -> str:
    """
    Scheme, host, port and the host's path, without a trailing slash. HTTPS unless the host or ``scheme`` says http.

    :raises ValueError: ``no host`` or ``no valid host``
    """
    host = (host or "").strip()
    if "://" not in host:
        host = f"{scheme or 'https'}://{host}"
    try:
        parts = urlsplit(host)
        port = parts.port or port
    except ValueError:
        raise ValueError("no valid host") from None
    if not parts.hostname or parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("no host")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    # The default port is not part of a Host header; a signed one would differ from what the vendor sees.
    place = name if port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{name}:{port}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def new_session(*, verify: bool, ca_bundle: str | None, proxy: str | None) -> requests.Session:
    """:raises OSError: the CA bundle is not there, or holds no certificate"""
    session = requests.Session()
    for scheme in _DEFAULT_PORTS:
        session.mount(f"{scheme}://", deadline.adapter())
    # No proxy credentials or .netrc of the worker's environment may answer for the connection.
    session.trust_env = False
    session.verify = verify
    if ca_bundle:
        # Read once here: of a bundle that holds no certificate requests would say that the host is not trusted.
        place = {"capath": ca_bundle} if Path(ca_bundle).is_dir() else {"cafile": ca_bundle}
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(**place)
        session.verify = ca_bundle
    if proxy:
        session.proxies = {"http": proxy, "https": proxy}
    return session


def exchange(session: requests.Session, request: Request, *, vendor: str, url: str, writes_allowed: bool) -> Response:
    """
    Send one request and read its answer, whatever its status.

    :param vendor: for the errors
    :param url: the vendor's base URL, without a trailing slash
    :raises WriteInPlanMode: the request writes and ``writes_allowed`` is False
    :raises Unavailable: no answer, or not all of it, or not all of it in ``request.total_seconds``
    :raises Unexpected: the answer is longer than the request allows
    :raises UntrustedHost: the host's certificate fails verification
    :raises WrongConnection: a field of the connection that HTTP cannot carry
    """
    if request.writes and not writes_allowed:
        raise WriteInPlanMode(f"{vendor} {request.operation} writes, and this run only plans")
    with _our_errors(vendor, request), _ends_in_time(vendor, request):
        answer = session.request(
            request.method,
            url + request.path,
            params=list(request.params),
            json=request.json,
            data=request.form,
            headers=dict(request.headers),
            timeout=request.timeout_seconds,
            # A redirect would carry our credentials to wherever the answer says.
            allow_redirects=False,
            # Read below, piece by piece.
            stream=True,
        )
        body = _read(vendor, request, answer)
    return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, body)


@contextmanager
def _ends_in_time(vendor: str, request: Request) -> Iterator[None]:
    """:raises Unavailable: the exchange is not over after ``request.total_seconds``; its line has been cut"""
    with deadline.within(request.total_seconds) as limit:
        try:
            yield
        except Exception:
            if not limit.passed.is_set():
                raise
        # Also without an error: an answer that says nothing of its length ends with its line.
        if limit.passed.is_set():
            problem = f"no whole answer within {request.total_seconds:g} s"
            raise Unavailable(vendor, request.operation, problem) from None


@contextmanager
def _our_errors(vendor: str, request: Request) -> Iterator[None]:
    """What requests raises, as ours. ``from None``: the texts of its exceptions hold the whole URL, and a signature."""
    operation = request.operation
    try:
        yield
    except (*_NOT_SENDABLE, UnicodeError):
        problem = "host, key or another field has a character that HTTP cannot carry (a line end, say)"
        raise WrongConnection(vendor, operation, problem) from None
    except (requests.exceptions.SSLError, requests.exceptions.ProxyError) as error:
        raise _tls_problem(vendor, operation, error) from None
    except requests.exceptions.Timeout:
        raise Unavailable(vendor, operation, f"no answer within {request.timeout_seconds:g} s") from None
    except requests.exceptions.ConnectionError as error:
        raise Unavailable(vendor, operation, _connection_problem(error)) from None
    except requests.exceptions.RequestException as error:
        raise Unavailable(vendor, operation, type(error).__name__) from None


def _tls_problem(vendor: str, operation: str, error: requests.exceptions.ConnectionError) -> VendorError:
    """
    Only a certificate that fails verification is for a person. A handshake that is cut, answered with an alert or with
    something else than TLS is what a restart, a drain or an overload looks like.
    """
    causes = list(_causes(error))
    if any(isinstance(cause, (ssl.SSLCertVerificationError, CertificateError)) for cause in causes):
        return UntrustedHost(vendor, operation, "TLS: the host's certificate is not trusted")
    if any("407 " in str(cause) for cause in causes if isinstance(cause, OSError)):
        return Unauthorized(vendor, operation, "the connection's proxy refuses our name and password", status=407)
    if isinstance(error, requests.exceptions.ProxyError):
        return Unavailable(vendor, operation, _connection_problem(error))
    reasons = [cause.reason for cause in causes if isinstance(cause, ssl.SSLError) and cause.reason]
    words = str(reasons[-1]).lower().replace("_", " ") if reasons else "the handshake was cut"
    return Unavailable(vendor, operation, f"no TLS connection: {words}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made of: requests and urllib3 wrap an error as an argument of the next one."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]


def _connection_problem(error: requests.exceptions.ConnectionError) -> str:
    if isinstance(error, requests.exceptions.ProxyError):
        return "the connection's proxy cannot be reached, or refuses"
    text = str(error)
    return next((words for sign, words in _CONNECTION_PROBLEMS if sign in text), "no connection")


def _read(vendor: str, request: Request, answer: requests.Response) -> bytes:
    """The body, piece by piece: neither an endless one nor one that unpacks to a huge one may fill the memory."""
    body = bytearray()
    with answer:
        for piece in answer.iter_content(PIECE_BYTES):
            body += piece
            if len(body) > request.largest_bytes:
                problem = f"answer is longer than {request.largest_bytes:,} bytes"
                raise Unexpected(vendor, request.operation, problem, status=answer.status_code)
    return bytes(body)
