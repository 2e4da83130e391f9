"""Which words of a record say that the vendor judged by an attacker's behaviour."""

from __future__ import annotations

import pytest

from include.soar.model import ENUMERATION, FAILED_LOGINS
from threat_response.vendors.akamai_api_security.records import _behaviour


@pytest.mark.parametrize(
    ("texts", "behaviour"),
    [
        (("bruteForce",), FAILED_LOGINS),
        (("Account Takeover", ""), FAILED_LOGINS),
        (("Brute Force Authentication Attempt",), FAILED_LOGINS),
        (("incident", "Credential stuffing"), FAILED_LOGINS),
        (("API2:2023",), FAILED_LOGINS),
        (("Recon",), ENUMERATION),
        (("Data Access",), ENUMERATION),
        (("objectLevelAuthorization",), ENUMERATION),
        (("Recon", "Brute force"), FAILED_LOGINS),
        (("Excessive failed log-ins",), FAILED_LOGINS),
        (("Password spraying",), FAILED_LOGINS),
        (("Password in the URL", "Login page without TLS", "Leaked credentials"), ""),
        (("SQL injection", "API8:2023"), ""),
        (("api20 is misconfigured",), ""),
        (("Reconciliation report",), ""),
        ((), ""),
    ],
)
def test_the_words_of_a_behaviour(texts: tuple[str, ...], behaviour: str) -> None:
    assert _behaviour(*texts) == behaviour
