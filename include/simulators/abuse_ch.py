"""What the simulators of abuse.ch's products share: the key in ``Auth-Key``, and a word for every answer.

Recorded by third parties: 401 without a key, 403 for an unknown one.
"""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from include.simulators.kit import Simulator


def said(word: str) -> Response:
    return JSONResponse({"query_status": word})


class AbuseChSimulator(Simulator):
    """A subclass has the knob ``api_key``."""

    def error(self, status: int, detail: str | None = None) -> Response:
        if status == 401:
            return JSONResponse({"error": detail or "Unauthorized"}, status)
        word = "unknown_auth_key" if status == 403 else f"status_{status}"
        return JSONResponse({"query_status": detail or word}, status)

    def refusal(self, request: Request) -> Response | None:
        """The answer to a request with a wrong key or method; None: it is a question."""
        key = request.headers.get("auth-key")
        if not key:
            return self.error(401)
        if key != self.knobs["api_key"]:
            return self.error(403)
        return None if request.method == "POST" else said("http_post_expected")
