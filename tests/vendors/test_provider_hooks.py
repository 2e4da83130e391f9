"""What holds for every reputation source that is asked over HTTP, at its hook and against its simulator.

What only one of them does is in the test_hook.py of its folder. What stage 3 makes of their answers is asked in
tests/stages/enriching/test_every_provider.py, of the same cases.
"""

from __future__ import annotations

from typing import Any

import pytest

from include.soar.vendor.errors import RateLimited, Unavailable, VendorError
from tests.stages import controls
from tests.stages.controls import everything_logged
from tests.stages.enriching.provider_case import CASES, Provider
from tests.support import SimServer

#: A request that the simulator holds back would be counted in the middle of the next test: it is handled first.
FAULTS = [
    *(fault for fault in controls.FAULTS if fault.id != "timeout"),
    pytest.param("hang_after_commit", {"seconds": 30}, Unavailable, id="timeout"),
]
#: What *Test connection* says to faults that have nothing to do with a key.
CAUSES = [
    ("status", {"status": 429}, "quota is used up"),
    ("status", {"status": 503}, "the vendor is down"),
    ("html", {"status": 200}, "Wrong host"),  # a hotel's login page
    ("html", {"status": 404}, "Wrong host"),
    ("reset", {}, "the vendor is down"),
]


@pytest.fixture(params=CASES)
def provider(request: pytest.FixtureRequest, sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> Provider:
    name, case = request.param
    return Provider(name, case, sim, monkeypatch)


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
def test_a_fault_becomes_an_error_that_says_what_to_do(
    provider: Provider, kind: str, options: dict[str, Any], error: type[VendorError]
) -> None:
    hook = provider.hook()
    provider.lose_patience()
    if "headers" in options:
        options = {**options, "headers": {provider.case.retry_after: "7"}}
    provider.fault(kind, **options)
    with pytest.raises(error) as caught:
        provider.ask(hook)
    assert type(caught.value) is error
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7
    assert provider.key not in str(caught.value)


def test_after_a_fault_it_is_asked_again(provider: Provider) -> None:
    hook = provider.hook()
    provider.fault("reset")
    with pytest.raises(Unavailable):
        provider.ask(hook)
    assert provider.ask(hook)


def test_a_question_is_no_write(provider: Provider) -> None:
    assert provider.ask(provider.hook(writes_allowed=False))


def test_the_connection_test_names_the_cause(provider: Provider) -> None:
    hook = provider.hook()
    assert hook.test_connection()[0]
    for kind, options, cause in (*CAUSES, *provider.case.causes):
        provider.fault(kind, **options)
        passed, message = hook.test_connection()
        assert not passed, (kind, options)
        assert cause in message.split(f": {provider.name}")[0], (kind, options)


@pytest.mark.parametrize(("key", "cause"), [("another-key-1", "Wrong key"), (None, "Incomplete")])
def test_a_wrong_key_and_none(provider: Provider, key: str | None, cause: str) -> None:
    provider.connect(key)
    passed, message = provider.hook().test_connection()
    assert passed is (key is None and not provider.case.needs_a_key)
    assert passed or message.startswith(cause)


def test_the_key_is_in_no_line_and_no_error(provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    hook = provider.hook()
    with everything_logged() as lines:
        provider.ask(hook)
        for status in (400, 401, 403, 422, 429, 500):
            provider.fault("status", status=status, detail=f"the key {provider.key} is odd")
            with pytest.raises(VendorError) as caught:
                provider.ask(hook)
            assert provider.key not in str(caught.value)
        provider.fault("reset")
        with pytest.raises(Unavailable):
            provider.ask(hook)
        hook.test_connection()
    assert lines
    assert not [line for line in [*lines, capsys.readouterr().out] if provider.key in line]
