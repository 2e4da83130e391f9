"""The last good copy of a download: when is it asked for anew, and what is used when nobody answers?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, Unexpected, VendorError
from tests.soar.examples import NOW
from threat_response.runtime import settings
from threat_response.transport.copies import Copies, Reference, has_shrunk, load_copy

HOUR = timedelta(hours=1)


class Download:
    """What the provider has, or the error that it answers with."""

    def __init__(self, home: Path) -> None:
        self.content = b"first"
        self.error: VendorError | None = None
        self.calls = 0
        self.outages: list[VendorError] = []

    def copies(self, **asked_for: str) -> Copies:
        return Copies(settings.archive() / "tests", {"list": "drop", **asked_for})

    def refresh(self, after: timedelta = timedelta(0), not_before: timedelta = HOUR, **asked_for: str) -> bytes:
        copies = self.copies(**asked_for)

        def download(references: list[Reference]) -> list[Reference]:
            self.calls += 1
            if self.error is not None:
                raise self.error
            return [{"uri": copies.keep(self.content.decode(), self.content), "before": len(references)}]

        now = NOW + after
        (reference,) = copies.refresh(download, now=now, not_before=not_before, on_outage=self.outages.append)
        return load_copy("tests", "copy", reference, bytes)


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Download:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    return Download(tmp_path)


def test_a_copy_is_used_until_it_is_time_to_ask_again(provider: Download) -> None:
    assert provider.refresh() == b"first"
    provider.content = b"second"
    assert provider.refresh(HOUR - timedelta(seconds=1)) == b"first"
    assert provider.calls == 1
    assert provider.refresh(HOUR) == b"second"


@pytest.mark.parametrize("kind", [Unavailable, RateLimited, Unexpected, Rejected])
def test_an_outage_is_told_and_gone_through_with_the_copy(provider: Download, kind: type[VendorError]) -> None:
    provider.refresh()
    provider.error = kind("tests", "copy", "down")
    assert provider.refresh(HOUR) == b"first"
    assert provider.outages == [provider.error]
    assert provider.refresh(2 * HOUR - timedelta(seconds=1)) == b"first"
    assert provider.calls == 2, "a provider that is down was asked again at once"


def test_without_a_copy_the_outage_is_an_error_and_asked_about_again(provider: Download) -> None:
    provider.error = Unavailable("tests", "copy", "down")
    with pytest.raises(Unavailable):
        provider.refresh()
    provider.error = None
    assert provider.refresh() == b"first"
    assert provider.outages == []


def test_what_a_person_must_mend_is_not_hidden_by_a_copy(provider: Download) -> None:
    provider.refresh()
    provider.error = Unauthorized("tests", "copy", "no")
    with pytest.raises(Unauthorized):
        provider.refresh(HOUR)


def test_a_copy_of_something_else_does_not_count(provider: Download) -> None:
    provider.refresh()
    provider.content = b"other"
    assert provider.refresh(format="csv") == b"other"
    assert provider.refresh(format="csv") == b"other"
    assert provider.calls == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"references": []}'])
def test_a_state_that_is_not_whole_is_no_copy(provider: Download, tmp_path: Path, content: bytes) -> None:
    provider.refresh()
    (path,) = tmp_path.rglob("current.json")
    path.write_bytes(content)
    assert (provider.copies().references, provider.copies().asked_at) == ([], None)
    assert provider.refresh() == b"first"
    assert provider.calls == 2


def test_the_same_content_is_the_same_object(provider: Download, tmp_path: Path) -> None:
    provider.refresh()
    (path,) = tmp_path.rglob("first.gz")
    before = path.read_bytes()
    provider.refresh(HOUR)
    assert path.read_bytes() == before


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("damage", [damaged, Path.unlink, lambda path: path.write_bytes(b"odd")])
def test_a_copy_that_is_damaged_or_gone_is_said_to_be_so(
    provider: Download, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    provider.refresh()
    (path,) = tmp_path.rglob("first.gz")
    damage(path)
    with pytest.raises(Unexpected, match="the copy cannot be read"):
        provider.refresh()


def test_a_copy_that_cannot_be_parsed_is_said_to_be_so(provider: Download) -> None:
    provider.refresh()
    (reference,) = provider.copies().references
    with pytest.raises(Unexpected, match="the copy cannot be read: UnicodeDecodeError"):
        load_copy("tests", "copy", reference, lambda content: (content + b"\xff").decode())


def test_a_loss_up_to_the_limit_is_no_shrinking() -> None:
    assert not has_shrunk(100, 50, largest_loss=50)
    assert has_shrunk(100, 49, largest_loss=50)
    assert not has_shrunk(0, 0, largest_loss=50)
    assert not has_shrunk(100, 0, largest_loss=100)
