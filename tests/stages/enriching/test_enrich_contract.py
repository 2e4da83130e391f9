"""The contract of stage 3, with the smallest provider that can have it: a hook over a tiny HTTP server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import quote, unquote

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.soar.model import (
    Answer,
    CaseBatch,
    Observable,
    ObservableType,
    Observed,
    Reputation,
    ReputationBatch,
)
from tests.soar.examples import at, sighting, window
from tests.stages import tiny
from tests.stages.controls import POLICY, PROTECTED
from tests.stages.tiny import Printed, TinyHook, TinyServer, context, json_answer
from threat_response.runtime import settings
from threat_response.stages.enrich import Enrich
from threat_response.transport.asking import NoAnswer, Provider, Question, count_calls

EVIL, WORSE, CLEAN = "203.0.113.7", "203.0.113.8", "203.0.113.9"


# --- stage 3: enrich ---------------------------------------------------------------------------------------------


class TinyAsker(Provider, TinyHook):
    vendor = "abuseipdb"  # a name that the policy knows
    types = frozenset({ObservableType.IPV4, ObservableType.IPV6})
    is_remote: ClassVar[bool] = True
    #: How old the provider's answers are.
    age: ClassVar[timedelta] = timedelta(0)

    def lookup(self, observable: Observable) -> Reputation:
        score = self.get(f"/score/{quote(observable.value, safe='')}")
        return Reputation(
            observable=observable,
            provider=self.vendor,
            answer=Answer.LISTED if score else Answer.NOT_LISTED,
            score=score,
            known_at=settings.now() - self.age,
        )


class Local(TinyAsker):
    """The same, as a list of our own."""

    is_remote = False

    def answers(
        self, observables: Sequence[Observable], copies: Sequence[Mapping[str, Any]], *, now: datetime
    ) -> list[Reputation]:
        return [self.lookup(observable) for observable in observables]


class TinyEnrich(Enrich):
    vendor = "abuseipdb"
    hook_class: ClassVar[type[TinyAsker]] = TinyAsker

    @property
    def is_remote(self) -> bool:
        return self.hook_class.is_remote

    @property
    def needs_lists(self) -> bool:
        return False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(conn_id="tiny_default", **kwargs)


def case(*values: str) -> dict[str, Any]:
    observed = tuple(Observed(observable=_observable(value), sightings=(sighting(),)) for value in values)
    return CaseBatch(window=window(), findings=(), observed=observed).to_json()


def _observable(value: str) -> Observable:
    if value.replace(".", "").isdigit():
        return Observable(type=ObservableType.IPV4, value=value)
    kind = ObservableType.IPV6 if ":" in value else ObservableType.DOMAIN
    return Observable(type=kind, value=value)


def scores(server: TinyServer, table: dict[str, int | tiny.Answer]) -> None:
    def answer(seen: tiny.Seen) -> tiny.Answer:
        found = table[unquote(seen.path.rsplit("/", 1)[-1])]
        return found if isinstance(found, tiny.Answer) else json_answer(found)

    server.always = answer


def asked(server: TinyServer) -> list[str]:
    return [unquote(seen.path.rsplit("/", 1)[-1]) for seen in server.seen]


def enrich(*values: str, by: type[TinyAsker] = TinyAsker) -> dict[str, Reputation]:
    operator = type("Operator", (TinyEnrich,), {"hook_class": by})(task_id="enrich", case=case(*values))
    batch = ReputationBatch.model_validate(operator.execute(context()))
    assert [r.observable.value for r in batch.reputations] == [
        o.value for o in sorted((_observable(v) for v in values), key=lambda o: o.key)
    ]
    return {r.observable.value: r for r in batch.reputations}


def test_enrich_gives_one_answer_for_each(server: TinyServer) -> None:
    scores(server, {EVIL: 90, CLEAN: 0})
    answers = enrich(EVIL, CLEAN, "evil.example")
    assert {value: (r.answer, r.score) for value, r in answers.items()} == {
        EVIL: (Answer.LISTED, 90),
        CLEAN: (Answer.NOT_LISTED, 0),
        "evil.example": (Answer.NOT_APPLICABLE, None),
    }
    assert asked(server) == [EVIL, CLEAN]


@pytest.mark.parametrize(
    "value",
    [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "::1",
        "fd00::1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        PROTECTED,  # ours
        "64:ff9b::c000:205",  # ours in disguise
        "198.51.100.201",  # a partner's
    ],
)
def test_what_is_private_is_never_sent_to_a_provider(server: TinyServer, value: str) -> None:
    scores(server, {EVIL: 90})
    answers = enrich(value, EVIL)
    assert answers[value].answer is Answer.NOT_APPLICABLE
    assert "not sent out" in answers[value].summary
    assert asked(server) == [EVIL]


def test_what_is_never_blocked_anyway_costs_no_question(server: TinyServer) -> None:
    answer = enrich("192.0.2.53")["192.0.2.53"]
    assert answer.answer is Answer.NOT_APPLICABLE
    assert answer.summary.startswith("never blocked anyway: ")
    assert server.seen == []


def test_a_local_list_is_asked_about_it_all_the_same(server: TinyServer) -> None:
    scores(server, {"192.0.2.53": 0})
    assert enrich("192.0.2.53", by=Local)["192.0.2.53"].answer is Answer.NOT_LISTED


def test_outside_of_the_demo_documentation_ranges_are_not_asked_about(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY.split(":")[0])
    assert enrich(EVIL)[EVIL].answer is Answer.NOT_APPLICABLE
    assert server.seen == []


def test_a_stored_answer_is_not_asked_for_again(server: TinyServer) -> None:
    scores(server, {EVIL: 90, CLEAN: 0, WORSE: 100})
    first = enrich(EVIL, CLEAN)
    second = enrich(EVIL, CLEAN, WORSE)
    assert asked(server) == [EVIL, CLEAN, WORSE]
    assert {value: second[value] for value in first} == first


def test_an_answer_stays_good_as_long_as_the_policy_says(server: TinyServer) -> None:
    """24 hours for listed, 6 for not listed."""

    def aged(hours: int) -> type[TinyAsker]:
        return type("Aged", (TinyAsker,), {"age": timedelta(hours=hours)})

    scores(server, {EVIL: 90, CLEAN: 0})
    enrich(EVIL, CLEAN, by=aged(7))
    enrich(EVIL, CLEAN)
    assert asked(server) == [EVIL, CLEAN, CLEAN]
    scores(server, {WORSE: 90})
    enrich(WORSE, by=aged(25))
    enrich(WORSE)
    assert asked(server)[3:] == [WORSE, WORSE]


def test_a_provider_that_costs_nothing_is_asked_each_time(server: TinyServer) -> None:
    scores(server, {EVIL: 90})
    enrich(EVIL, by=Local)
    enrich(EVIL, by=Local)
    assert asked(server) == [EVIL, EVIL]


def test_an_item_that_the_provider_rejects_costs_that_item(server: TinyServer) -> None:
    scores(server, {EVIL: tiny.Answer(422, b'{"detail": "not an address"}'), WORSE: 90})
    answers = enrich(EVIL, WORSE)
    assert answers[EVIL].answer is Answer.ERROR
    assert "not an address" in answers[EVIL].summary
    assert answers[WORSE].answer is Answer.LISTED


@pytest.mark.parametrize(("status", "answer"), [(429, Answer.NOT_CHECKED), (401, Answer.ERROR), (403, Answer.ERROR)])
def test_a_provider_that_wants_nothing_costs_the_rest_and_stops_nothing(
    server: TinyServer, printed: Printed, status: int, answer: Answer
) -> None:
    scores(server, {EVIL: tiny.Answer(status), WORSE: 90, CLEAN: 0})
    answers = enrich(EVIL, WORSE, CLEAN)
    assert {r.answer for r in answers.values()} == {answer}
    assert asked(server) == [EVIL]  # it is not asked on and on
    assert sum("gave no answer about 3 observables" in line for line in printed()) == 1
    assert settings.ledger().answers.changes(at("2000-01-01"), settings.now() + timedelta(days=1)) == []


@pytest.mark.parametrize("status", [500, 302])
def test_one_bad_answer_costs_its_value(server: TinyServer, status: int) -> None:
    scores(server, {EVIL: 90, WORSE: tiny.Answer(status), CLEAN: 0})
    answers = enrich(EVIL, WORSE, CLEAN)
    assert [answers[v].answer for v in (EVIL, WORSE, CLEAN)] == [Answer.LISTED, Answer.ERROR, Answer.NOT_LISTED]
    # What may be a blip is tried again at the end; what was not understood is not.
    assert asked(server).count(WORSE) == (2 if status == 500 else 1)
    assert (answers[WORSE].retry_at is not None) == (status == 500)
    # What got no answer is not stored: the next run asks, and only about what it does not know.
    scores(server, {WORSE: 100})
    answers = enrich(EVIL, WORSE, CLEAN)
    assert [answers[v].score for v in (EVIL, WORSE, CLEAN)] == [90, 100, 0]


class Bulk(TinyAsker):
    """One question for all of them."""

    def questions(self, observables: Sequence[Observable]) -> list[Question]:
        return [Question(tuple(observables), Bulk.look_up_all, at_once=100)]

    def look_up_all(self, observables: Sequence[Observable]) -> list[Reputation]:
        return [
            Reputation(
                observable=_observable(v), provider=self.vendor, answer="listed", score=s, known_at=settings.now()
            )
            for v, s in self.get("/bulk")
        ]


def test_a_provider_that_is_asked_at_once_and_fails(server: TinyServer) -> None:
    server.always = tiny.Answer(503)
    answers = enrich(EVIL, WORSE, by=Bulk)
    assert {r.answer for r in answers.values()} == {Answer.ERROR}


def test_a_value_that_the_provider_passes_over_is_not_clean(server: TinyServer) -> None:
    server.always = json_answer([[EVIL, 50], [EVIL, 60], [CLEAN, 70]])  # one twice, one that nobody asked about
    answers = enrich(EVIL, WORSE, by=Bulk)
    assert (answers[EVIL].answer, answers[EVIL].score) == (Answer.LISTED, 60)
    assert (answers[WORSE].answer, answers[WORSE].score) == (Answer.ERROR, None)


def test_with_nothing_to_ask_the_provider_is_left_alone(server: TinyServer) -> None:
    enrich()
    enrich("evil.example", "10.0.0.1")
    assert server.seen == []


def test_a_provider_without_a_connection_is_skipped(unconnected: TinyServer) -> None:
    with pytest.raises(AirflowSkipException, match="enrichment by abuseipdb"):
        TinyEnrich(task_id="enrich", case=case(EVIL)).execute(context())


def test_making_an_operator_reads_no_connection_and_every_field_is_templated(unconnected: TinyServer) -> None:
    operator = Enrich(task_id="t", vendor="urlhaus", case={})
    assert (operator.vendor, operator.conn_id) == ("urlhaus", "urlhaus_default")
    assert all(hasattr(operator, name) for name in operator.template_fields)
    assert {"case", "local", "lists", "conn_id"} <= set(operator.template_fields)


def test_who_is_asked_after_the_local_lists_is_asked_even_where_one_failed() -> None:
    assert Enrich(task_id="t", vendor="urlhaus", case={}, local={}).trigger_rule == "all_done"
    assert Enrich(task_id="u", vendor="list_feed", case={}).trigger_rule == "all_success"


# --- the questions ------------------------------------------------------------------------------------------------


def test_a_value_that_cannot_be_asked_about_costs_no_question_and_says_why(server: TinyServer) -> None:
    class Picky(TinyAsker):
        def unaskable(self, observable: Observable) -> NoAnswer | None:
            return NoAnswer(Answer.ERROR, "it would be a pattern") if observable.value == EVIL else None

    scores(server, {WORSE: 90})
    answers = enrich(EVIL, WORSE, by=Picky)
    assert (answers[EVIL].answer, answers[EVIL].summary) == (Answer.ERROR, "it would be a pattern")
    assert asked(server) == [WORSE]


class Shortcuts(TinyAsker):
    """Two calls about two values each that save the four single ones."""

    def questions(self, observables: Sequence[Observable]) -> list[Question]:
        pairs = [tuple(observables[:2]), tuple(observables[2:4])]
        return [Question(pair, Shortcuts.both, 2, "pairs", shortcut=True) for pair in pairs] + super().questions(
            observables
        )

    def both(self, pair: Sequence[Observable]) -> list[Reputation]:
        score = self.get(f"/pair/{pair[0].value}")
        return [
            Reputation(observable=o, provider=self.vendor, answer="listed", score=score, known_at=settings.now())
            for o in pair
        ]


FOUR = tuple(f"203.0.113.{n}" for n in range(1, 5))


def test_what_a_shortcut_answered_is_not_asked_again(server: TinyServer) -> None:
    scores(server, dict.fromkeys(FOUR, 50))
    assert {r.score for r in enrich(*FOUR, by=Shortcuts).values()} == {50}
    assert [seen.path for seen in server.seen] == [f"/pair/{FOUR[0]}", f"/pair/{FOUR[2]}"]
    enrich(*FOUR, by=Shortcuts)
    assert len(server.seen) == 2  # the answers are stored


class Overlapping(Shortcuts):
    """A call about two values, and then one about all four of which the first two are answered."""

    def questions(self, observables: Sequence[Observable]) -> list[Question]:
        first, second, *_ = super().questions(observables)
        return [first, Question((*first.observables, *second.observables), Shortcuts.both, 4, "pairs", shortcut=True)]


class Forgetful(Shortcuts):
    """Its calls about two values answer nothing, and do not fail."""

    def questions(self, observables: Sequence[Observable]) -> list[Question]:
        pairs = [tuple(observables[:2]), tuple(observables[2:4])]
        nothing = [Question(pair, Forgetful.forget, 2, "pairs", shortcut=True) for pair in pairs]
        return [*nothing, *super().questions(observables)[2:]]

    def forget(self, pair: Sequence[Observable]) -> list[Reputation]:
        self.get(f"/pair/{pair[0].value}")
        return []


def test_a_later_question_is_about_what_is_not_answered_yet(server: TinyServer) -> None:
    scores(server, dict.fromkeys(FOUR, 50))
    assert {r.score for r in enrich(*FOUR, by=Overlapping).values()} == {50}
    assert [seen.path for seen in server.seen] == [f"/pair/{FOUR[0]}", f"/pair/{FOUR[2]}"]


def test_a_question_whose_values_are_all_answered_is_not_asked(server: TinyServer) -> None:
    scores(server, dict.fromkeys(FOUR, 50))
    assert {r.score for r in enrich(*FOUR[:2], by=Overlapping).values()} == {50}
    assert [seen.path for seen in server.seen] == [f"/pair/{FOUR[0]}"]


def test_a_shortcut_that_answers_nothing_does_not_end_the_shortcuts(server: TinyServer) -> None:
    scores(server, dict.fromkeys(FOUR, 50))
    assert {r.score for r in enrich(*FOUR, by=Forgetful).values()} == {50}
    paths = [seen.path for seen in server.seen]
    assert paths[:2] == [f"/pair/{FOUR[0]}", f"/pair/{FOUR[2]}"]
    assert sorted(paths[2:]) == [f"/score/{value}" for value in FOUR]


@pytest.mark.parametrize("status", [402, 429, 500, 302])
def test_a_shortcut_that_fails_ends_the_shortcuts_and_costs_nobody_an_answer(server: TinyServer, status: int) -> None:
    def answer(seen: tiny.Seen) -> tiny.Answer:
        return tiny.Answer(status) if "/pair/" in seen.path else json_answer(70)

    server.always = answer
    assert {r.score for r in enrich(*FOUR, by=Shortcuts).values()} == {70}
    paths = [seen.path for seen in server.seen]
    assert paths[0] == f"/pair/{FOUR[0]}"
    assert sorted(paths[1:]) == [f"/score/{value}" for value in FOUR]


def test_a_forecast_counts_what_a_run_asks(server: TinyServer) -> None:
    scores(server, dict.fromkeys(FOUR, 50))
    operator = TinyEnrich(task_id="forecast", case=None)
    values = [_observable(value) for value in FOUR]
    for by in (TinyAsker, Bulk, Shortcuts):
        _, questions = operator.prepare(by("tiny_default"), values, ())
        counted = count_calls(questions, "lookup")
        assert counted.total() == {TinyAsker: 4, Bulk: 1, Shortcuts: 2}[by]
    assert server.seen == []
    assert count_calls(questions, "lookup") == {"pairs": 2, "lookup": 0}
