"""4e, N10: no text holds six characters in a row of a secret, in any encoding, whole or cut."""

from __future__ import annotations

import base64
import html
import json
import pickle
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.soar.model import digest
from include.soar.vendor.errors import Ours, Unauthorized, shown
from include.soar.vendor.redaction import KNOWN, MASK, MOST_PASSING, PIECE, Secrets, redact

ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent": lambda text: quote(text, safe=""),
    "percent, small letters": lambda text: quote(text, safe="").lower(),
    "percent, all": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "form": quote_plus,
    "json": lambda text: json.dumps(text)[1:-1],
    "json, not only ASCII": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "json with slashes": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "json in json": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "form in json": lambda text: json.dumps(quote_plus(text))[1:-1],
    "json in a form": lambda text: quote_plus(json.dumps(text)[1:-1]),
    "html": html.escape,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of a URL": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 in a form": lambda text: quote(base64.b64encode(text.encode()).decode(), safe=""),
    "hex": lambda text: text.encode().hex(),
    "hex, capitals": lambda text: text.encode().hex().upper(),
    "hex in json": lambda text: json.dumps({"sent": f"0x0{text.encode().hex()}"}),
    "basic": lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
    "basic, other length": lambda text: base64.b64encode(f"users:{text}:".encode()).decode(),
    "basic, a third length": lambda text: base64.b64encode(f"usersx:{text}/x".encode()).decode(),
}
SECRET = 'aB3/k+Z%9d "q\\&m<Xé=w7'
secrets = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=8, max_size=60)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_echo_is_taken_out_and_the_rest_stays(encoding: str) -> None:
    told = redact(f"invalid client: {ENCODINGS[encoding](SECRET)}, told at 12:00", [SECRET])
    assert told.startswith("invalid client: ")
    assert told.endswith(", told at 12:00")
    assert MASK in told
    assert len(told) <= len("invalid client: , told at 12:00") + 24  # what stands beside the secret in Base64


@given(secret=secrets, encoding=st.sampled_from(sorted(ENCODINGS)), cut=st.integers(0, 200), begin=st.booleans())
def test_no_piece_of_any_secret_is_left(secret: str, encoding: str, cut: int, begin: bool) -> None:
    encoded = ENCODINGS[encoding](secret)
    part = encoded[cut % len(encoded) :] if begin else encoded[: cut % len(encoded) + 1]
    told = redact(f"bad: '{part}' ... {encoded}", [secret])
    for at in range(len(secret) - PIECE + 1):
        assert secret[at : at + PIECE] not in told
        if "base" not in encoding and "basic" not in encoding:  # of those the piece's ends depend on its place
            assert ENCODINGS[encoding](secret[at : at + PIECE]) not in told
    if encoding == "base64":
        whole = encoded.rstrip("=")[:-1]
        assert all(whole[at : at + PIECE] not in told for at in range(len(whole) - PIECE + 1))


@given(text=st.text(max_size=200), other=st.text("0123456789", min_size=6, max_size=20))
def test_a_text_without_a_secret_stays_as_it_is(text: str, other: str) -> None:
    letters = "".join(c for c in text if not c.isdigit() and c not in "%\\&")
    assert redact(letters, [other]) == letters or not letters.isascii()


def test_the_reported_echo_that_was_cut_in_the_middle() -> None:
    """N10: 22 of 32 characters of a client secret in *Test connection* and in the log."""
    secret = "u8Jx2LqPz0r7gkm2UyMlpnuM5OWxkK1x"
    told = redact("4 validation errors: input_value={'client_id': 'svc-HKiij1...r7gkm2UyMlpnuM5OWxkK1x'}", [secret])
    assert told == "4 validation errors: input_value={'client_id': 'svc-HKiij1...***'}"


def test_the_reported_echo_of_a_form() -> None:
    """4e: Falcon's 403 with what we sent."""
    told = redact("client_id=l0gin-id&client_secret=s3cr3t-Pa55%2Fw%2Brd%25 x", ["l0gin-id", "s3cr3t-Pa55/w+rd%"])
    assert told == "client_id=***&client_secret=*** x"


def test_an_error_is_clean_however_it_is_made() -> None:
    KNOWN.add("a-secret-of-ours")
    error = Unauthorized("v", "op", "no key a-secret-of-ours", request_id="a-secret-of-ours")
    for told in (str(error), repr(error.args), error.reason, str(pickle.loads(pickle.dumps(error)))):
        assert "secret-of" not in told
    assert error.reason == f"no key {MASK}"
    assert shown("x" * 297 + " a-secret-of-ours").endswith("…")  # taken out before it is cut
    # What no vendor has a word in may use the same words as a secret.
    assert Unauthorized("v", "op", Ours("secret-of whom?")).reason == "secret-of whom?"


def test_only_the_newest_signatures_are_remembered() -> None:
    secrets = Secrets()
    secrets.add("kept-for-good")
    for number in range(MOST_PASSING + 1):
        secrets.add(digest(number), passing=True)
    assert secrets.redact(f"{digest(0)} {digest(MOST_PASSING)} kept-for-good") == f"{digest(0)} *** ***"
