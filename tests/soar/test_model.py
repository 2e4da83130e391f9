"""The words: strict, frozen, and with the same id for the same thing everywhere."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from include.soar import model
from include.soar.extract.records import clip
from include.soar.model import (
    Action,
    ActionBatch,
    Answer,
    CaseBatch,
    Decision,
    FetchBatch,
    Frozen,
    IncidentBatch,
    Observable,
    ObservableType,
    Outcome,
    RelationBatch,
    Reputation,
    ReputationBatch,
    Severity,
    Verb,
    Window,
    digest,
    own_id,
)
from tests.soar.examples import NOW, address, domain, finding, mention, observed, reputation, sighting, window

SHA256 = "ab" * 16 + "cd" * 16


def test_the_id_of_an_address_is_the_one_that_the_stix_specification_prints() -> None:
    """STIX 2.1, section 2.9."""
    assert address("198.51.100.3").id == "ipv4-addr--28bb3599-77cd-5a82-a950-b5bc3caf07c4"


def test_every_type_has_ids_of_its_own() -> None:
    ids = [Observable(type=kind, value="evil.example").id for kind in (ObservableType.DOMAIN, ObservableType.URL)]
    assert ids[0].startswith("domain-name--")
    assert ids[1].startswith("url--")
    assert all(uuid.UUID(text.partition("--")[2]).version == 5 for text in ids)


def test_a_file_is_named_by_its_hash() -> None:
    file = Observable(type=ObservableType.FILE, value=SHA256)
    assert file.hash_algorithm == "SHA-256"
    assert file.id != Observable(type=ObservableType.FILE, value=SHA256[:32]).id


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("ipv4-addr", "203.0.113.007"),
        ("ipv4-addr", "2001:db8::1"),  # an address of the other family
        ("ipv6-addr", "203.0.113.7"),
        ("ipv6-addr", "2001:DB8::1"),
        ("ipv6-addr", "2001:db8:0:0:0:0:0:1"),
        ("ipv6-addr", "fe80::1%eth0"),
        ("ipv4-addr", "evil.example"),
        ("domain-name", "Evil.example"),  # would slip through a gate that compares
        ("domain-name", "evil.example."),
        ("domain-name", ""),
        ("file", "abc"),
        ("file", SHA256.upper()),
        ("file", "z" * 64),
        ("url", "https://a.example/" + "a" * 4096),
        ("hostname", "evil.example"),
    ],
)
def test_only_canonical_values_are_observables(kind: str, value: str) -> None:
    with pytest.raises(ValidationError):
        Observable.model_validate({"type": kind, "value": value})


def test_a_very_long_url_has_a_short_key_that_is_its_own() -> None:
    urls = [Observable(type=ObservableType.URL, value=f"https://a.example/{'a' * 3000}{end}") for end in "xy"]
    assert all(len(url.key) < 100 for url in urls)
    assert urls[0].key != urls[1].key
    assert urls[0].id != urls[1].id


def test_severities_are_ordered() -> None:
    ranks = [Severity(word).rank for word in ("informational", "low", "medium", "high", "critical")]
    assert ranks == sorted(set(ranks))


def test_instants_need_a_zone_and_become_utc() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        Window(start_at=datetime(2026, 1, 1), end_at=NOW, chosen_by="x")
    east = datetime(2026, 1, 1, 9, 0, tzinfo=timezone(timedelta(hours=9)))
    assert Window(start_at=east, end_at=NOW, chosen_by="x").start_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert Window(start_at=east, end_at=NOW, chosen_by="x").key == "20260101T000000Z-20261124T120000Z"


@pytest.mark.parametrize(
    ("answer", "score", "good"),
    [
        (Answer.LISTED, 90, True),
        (Answer.NOT_LISTED, 0, True),
        (Answer.NOT_CHECKED, None, True),
        (Answer.ERROR, None, True),
        (Answer.NOT_APPLICABLE, None, True),
        (Answer.LISTED, None, False),
        (Answer.NOT_LISTED, None, False),
        (Answer.NOT_CHECKED, 0, False),  # "not checked" must not be able to look like a clean score
        (Answer.ERROR, 0, False),
        (Answer.NOT_APPLICABLE, 100, False),
        (Answer.LISTED, 101, False),
        (Answer.LISTED, -1, False),
    ],
)
def test_a_score_goes_with_an_answer_only(answer: Answer, score: int | None, good: bool) -> None:
    fields = {"observable": address("203.0.113.7"), "provider": "p", "answer": answer, "score": score, "known_at": NOW}
    if good:
        assert Reputation(**fields).score == score
    else:
        with pytest.raises(ValidationError):
            Reputation(**fields)


def test_things_are_frozen_and_know_no_other_fields() -> None:
    one = finding()
    with pytest.raises(ValidationError):
        one.title = "another"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        model.Finding.model_validate({**one.to_json(), "surprise": 1})


@pytest.mark.parametrize(
    "batch",
    [
        FetchBatch(source="s", window=window(), pages=1, records=1, archive=("a",), digest="d", findings=(finding(),)),
        CaseBatch(window=window(), findings=(finding(),), observed=(observed(address("203.0.113.7")),)),
        ReputationBatch(provider="p", reputations=()),
        Decision(policy_digest="d", priorities=(), verdicts=(), indicators=(), refusals=()),
        IncidentBatch(incidents=()),
        RelationBatch(relations=()),
        ActionBatch(control="c", actions=()),
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_a_batch_comes_back_from_json_as_it_went_and_another_version_is_refused(batch: model.Frozen) -> None:
    assert type(batch).model_validate(batch.to_json()) == batch
    with pytest.raises(ValidationError, match="schema_version"):
        type(batch).model_validate({**batch.to_json(), "schema_version": 2})


def test_roles_and_last_sighting_of_an_observable() -> None:
    earlier = NOW - timedelta(days=1)
    item = observed(address("203.0.113.7"), sighting(seen=earlier), sighting("f2", role=model.Role.CLAIM, seen=NOW))
    assert item.roles == {model.Role.ATTACKER, model.Role.CLAIM}
    assert item.last_seen_at == NOW


@given(st.lists(st.text(), min_size=2, max_size=4))
def test_house_ids_tell_their_parts_apart(parts: list[str]) -> None:
    assert own_id("kind", *parts) == own_id("kind", *parts)
    joined = [parts[0] + parts[1], *parts[2:]]
    assert own_id("kind", *parts) != own_id("kind", *joined)


def test_a_digest_does_not_depend_on_the_order_of_members() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest([1, 2]) != digest([2, 1])


def _texts_without_a_border(annotation: Any) -> bool:
    """Whether a type holds a plain str somewhere: text that is taken as it comes."""
    if annotation is str:
        return True
    if get_origin(annotation) is Annotated:
        return annotation != model.Text and _texts_without_a_border(get_args(annotation)[0])
    return any(_texts_without_a_border(one) for one in get_args(annotation) if get_origin(annotation) is not Literal)


def _models(base: type[Frozen]) -> list[type[Frozen]]:
    return [one for found in base.__subclasses__() for one in (found, *_models(found))]


def test_every_text_of_the_model_passes_the_border() -> None:
    """R16: a field that is added later too. Also keys of mappings."""
    found = [one for one in _models(Frozen) if one.__module__.startswith("include.soar")]
    assert len(found) > 20
    bare = [
        f"{one.__name__}.{name}"
        for one in found
        for name, kind in get_type_hints(one, include_extras=True).items()
        if name in one.model_fields and _texts_without_a_border(kind)
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("a\x00b", "a\ufffdb"),
        ("\ud800x\udfff", "\ufffdx\ufffd"),
        ("\\u0000 \\ud800", "\\u0000 \\ud800"),  # text that only spells an escape
        ("ä \U0001f600 \ufffd", "ä \U0001f600 \ufffd"),
    ],
)
def test_what_no_store_can_carry_is_replaced_in_every_text(given_text: str, kept: str) -> None:
    """R16."""
    said = reputation(address("203.0.113.7")).model_copy()
    said = Reputation.model_validate({**said.to_json(), "summary": given_text, "tags": [given_text]})
    assert (said.summary, said.tags) == (kept, (kept,))
    action = Action(
        control=given_text,
        verb=Verb.DENY,
        observable=domain("evil.example"),
        outcome=Outcome.BLOCKED,
        proof={given_text: given_text, "n": 5},
    )
    assert (action.control, action.proof) == (kept, {kept: kept, "n": 5})
    assert finding(mentions=(mention(given_text),)).mentions[0].text == kept
    assert clip(given_text) == kept
    assert json.loads(json.dumps(action.to_json())) == action.to_json()


@pytest.mark.parametrize("edge", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_at_the_edge_of_the_calendar_is_a_validation_error(edge: str) -> None:
    """1i: not an OverflowError, which nobody expects."""
    with pytest.raises(ValidationError, match="outside of the calendar"):
        Reputation.model_validate({**reputation(address("203.0.113.7")).to_json(), "last_reported_at": edge})
