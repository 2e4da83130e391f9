"""Stage 3: what the providers answer, what we conclude from it, and what is to be done."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from pydantic import Field, model_validator

from include.soar.model.base import SCHEMA_VERSION, Frozen, Instant, SchemaVersion
from include.soar.model.finding import Role
from include.soar.model.observable import Observable
from include.soar.model.response import Plan, Rung, Step
from include.soar.model.text import Text


class Reliability(StrEnum):
    """
    How far a source can be relied on: the letters of the Admiralty code, as MISP and most platforms use them
    (https://www.misp-project.org/taxonomies.html#_admiralty_scale).
    """

    A = "A"
    B = "B"
    C = "C"
    D = "D"
    E = "E"
    F = "F"

    @property
    def word(self) -> str:
        return _RELIABILITY_WORDS[self.value]

    def is_at_least(self, other: Reliability) -> bool:
        return self.value <= other.value


_RELIABILITY_WORDS = {
    "A": "completely reliable",
    "B": "usually reliable",
    "C": "fairly reliable",
    "D": "not usually reliable",
    "E": "unreliable",
    "F": "reliability cannot be judged",
}


class Tlp(StrEnum):
    """
    With whom something may be shared, from everybody to nobody else: the Traffic Light Protocol 2.0
    (https://www.first.org/tlp/).
    """

    CLEAR = "CLEAR"
    GREEN = "GREEN"
    AMBER = "AMBER"
    AMBER_STRICT = "AMBER+STRICT"
    RED = "RED"

    @property
    def rank(self) -> int:
        return list(Tlp).index(self)


class Answer(StrEnum):
    """The five answers, kept apart: only the first two say something about the observable."""

    LISTED = "listed"
    NOT_LISTED = "not_listed"
    NOT_CHECKED = "not_checked"
    ERROR = "error"
    NOT_APPLICABLE = "not_applicable"


class Listing(Frozen):
    """That one of a provider's lists names an observable, and how bad that is, 1-100."""

    name: Text
    score: int = Field(ge=1, le=100)


class Reputation(Frozen):
    """
    What one provider says about one observable.

    :param score: 0-100, badness on our common scale; only with LISTED or NOT_LISTED
    :param summary: one line for a person: why listed, or why not checked
    :param reference: the provider's page for the value, never to be fetched by us
    :param known_at: when the provider said so
    :param tags: the provider's own labels: malware families, campaigns, categories; hostile text like any other
    :param techniques: MITRE ATT&CK technique ids that the provider names, e.g. ``T1110``
    :param first_reported_at: the provider's first sight of it
    :param body_digest: SHA-256 of the body that it was read from, so that a later reading can be told from this one
    :param retry_at: without an answer: when asking again may give one; None: it would not
    :param lists: of a provider that reads several lists: those that name it, so that each can have a grade of its own
    """

    observable: Observable
    provider: Text
    answer: Answer
    score: int | None = Field(default=None, ge=0, le=100)
    summary: Text = ""
    reference: Text | None = None
    tags: tuple[Text, ...] = ()
    techniques: tuple[Text, ...] = ()
    first_reported_at: Instant | None = None
    last_reported_at: Instant | None = None
    body_digest: Text = ""
    known_at: Instant
    retry_at: Instant | None = None
    lists: tuple[Listing, ...] = ()

    @model_validator(mode="after")
    def _score_goes_with_an_answer(self) -> Reputation:
        answered = self.answer in (Answer.LISTED, Answer.NOT_LISTED)
        if answered != (self.score is not None):
            raise ValueError("a score goes with listed and not_listed, and only with them")
        return self


class ReputationBatch(Frozen):
    """Stage 3's answer, one per provider."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    provider: Text
    reputations: tuple[Reputation, ...]


class Standing(StrEnum):
    UNKNOWN = "unknown"
    BENIGN = "benign"
    SUSPICIOUS = "suspicious"
    MALICIOUS = "malicious"


class Verdict(Frozen):
    """Our judgement. ``confidence`` is 0-100 as in STIX 2.1; ``reasons`` are ordered and can be checked by hand."""

    observable: Observable
    standing: Standing
    confidence: int = Field(ge=0, le=100)
    reasons: tuple[Text, ...]
    reputations: tuple[Reputation, ...] = ()


class Refusal(Frozen):
    """
    Why an observable is not blocked although there was a reason to block it.

    :param layer: which rule refused: a layer of the never-block gate, ``role``, ``evidence``, ``shared``…
    :param list_name: which list of that layer, where it has several
    :param entry: which entry of it
    """

    observable: Observable
    layer: Text
    list_name: Text = ""
    entry: Text
    reason: Text
    finding_uids: tuple[Text, ...] = ()


class Indicator(Frozen):
    """
    An observable that we decided to act on.

    :param expires_at: the end of the highest step
    :param steps: the rungs that it reaches, the mildest first; empty in a batch of an older release
    :param hold_reasons: where it is held: why, each cap or rule in words
    :param enough: what would have been enough for the next rung; empty: it is on the highest
    """

    observable: Observable
    confidence: int
    reasons: tuple[Text, ...]
    roles: tuple[Role, ...]
    first_seen_at: Instant
    last_seen_at: Instant
    expires_at: Instant
    finding_uids: tuple[Text, ...]
    steps: tuple[Step, ...] = ()
    hold_reasons: tuple[Text, ...] = ()
    enough: Text = ""

    @property
    def rung(self) -> Rung | None:
        """The highest rung that it reaches."""
        return self.steps[-1].rung if self.steps else None

    def only(self, rungs: Collection[Rung]) -> Indicator | None:
        """It with its steps on these rungs alone, and the end of the highest of them. None: it has none."""
        steps = tuple(step for step in self.steps if step.rung in rungs)
        if not steps:
            return None
        return self.model_copy(update={"steps": steps, "expires_at": steps[-1].expires_at})


class Priority(Frozen):
    """Whether a finding becomes an incident, and why."""

    finding_uid: Text
    high: bool
    reason: Text


class ApprovalAnswer(StrEnum):
    """The possible answers to the question whether to make a run's blocks."""

    APPROVED = "approved"
    REJECTED = "rejected"
    NOBODY = "unanswered"


class Approval(Frozen):
    """
    The answer to that question.

    :param by: who gave it; empty: nobody did
    :param chosen: with APPROVED: the keys of the held observables that were chosen, all others are rejected; None: all.
        With NOBODY: those that are acted on all the same, since the policy says so
    :param comment: in the words of who answered
    """

    answer: ApprovalAnswer
    by: Text = ""
    at: Instant
    chosen: tuple[Text, ...] | None = None
    comment: Text = ""


class Decision(Frozen):
    """
    The verdicts, what to do about them, and by which policy.

    :param held: what waits for a person: indicators with only the steps that wait. The same observable may be among
        ``indicators`` with the steps that do not
    :param hold_reasons: which caps, and by how much; kept once the question is answered
    :param plan: what the run would change at the controls, once they were read
    :param approval: the answer, once there is one: ``held`` has then become ``indicators`` or ``refusals``
    :param remarks: what could not be checked, for the run's log
    """

    schema_version: SchemaVersion = SCHEMA_VERSION
    policy_digest: Text
    priorities: tuple[Priority, ...]
    verdicts: tuple[Verdict, ...]
    indicators: tuple[Indicator, ...]
    refusals: tuple[Refusal, ...]
    silent_providers: tuple[Text, ...] = ()
    held: tuple[Indicator, ...] = ()
    hold_reasons: tuple[Text, ...] = ()
    approval: Approval | None = None
    remarks: tuple[Text, ...] = ()
    plan: Plan | None = None
