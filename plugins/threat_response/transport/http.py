"""TODO: what http is."""

from __future__ import annotations

from urllib.parse import quote

import requests
from airflow.sdk.log import mask_secret

#: What requests says about a connection that it cannot even send: asking again would not help.
_NOT_SENDABLE = (
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidProxyURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
)


class WriteInPlanMode(RuntimeError):
    """A bug of ours: something tried to write while the run only plans. Refused at the HTTP boundary."""


def hide(*secrets: str | None) -> None:
    """Mask secrets in everything that this process logs from now on, also in their percent-encoded form."""
    for secret in secrets:
        if secret:
            mask_secret(secret)
            if (encoded := quote(secret, safe="")) != secret:
                mask_secret(encoded)


def connection_problem(error: requests.exceptions.ConnectionError) -> str:
    text = str(error)
    for sign, words in (
        ("NameResolutionError", "the host's name is not known"),
        ("Name or service not known", "the host's name is not known"),
        ("Connection refused", "the host refuses the connection"),
        ("RemoteDisconnected", "the host closed the connection without an answer"),
        ("Connection aborted", "the connection was cut"),
        ("Read timed out", "the answer stopped in the middle"),
        ("IncompleteRead", "the answer was cut"),
    ):
        if sign in text:
            return words
    return "no connection"
