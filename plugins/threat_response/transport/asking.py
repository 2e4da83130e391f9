"""
Asking a provider: what it can be asked, within its quotas, several calls at the same time, and no longer once it
wants to be left alone.

The only module with threads. Each thread has a hook of its own on the connection that was read before; everything that
they share is changed under one lock. The counts are the ledger's, so other tasks and workers are bound by them too.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from include.soar.enrich.quota import Account, Quota, QuotaSeen, Reservation, kept_calls, shut_for
from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, VendorError

if TYPE_CHECKING:
    from include.soar.ledger import Ledger
    from include.soar.policy.rules import EnrichmentPolicy
    from threat_response.transport.hook import VendorHook

#: Calls that are reserved at a time, for each connection: the ledger is asked seldom, and a task that dies takes few
#: calls with it.
RESERVED = 4


@dataclass(frozen=True)
class NoAnswer:
    """Why a value has no answer, and when asking again may give one."""

    answer: Answer
    why: str
    retry_at: datetime | None = None


#: Asks about values, on the given hook: each thread has one of its own.
Call = Callable[[Any, Sequence[Observable]], list[Reputation]]


@dataclass(frozen=True)
class Question:
    """
    Values that a provider is asked about in one way. A run asks it, a forecast counts its calls.

    :param at_once: how many values one call takes
    :param kind: the quota that the calls count against; None: the provider's first one
    :param shortcut: True for a single call about all the values that only saves calls: what it does not answer is left
        to the questions after it, and where it fails, the other shortcuts are not tried
    """

    observables: tuple[Observable, ...]
    call: Call
    at_once: int = 1
    kind: str | None = None
    shortcut: bool = False


class Provider:
    """
    What stage 3 asks of a vendor's hook. By default one call of ``lookup`` for each value.

    A provider that is not declared as remote answers from our own copies alone (``answers``); it is asked no questions.
    """

    #: What it can say something about.
    types: ClassVar[frozenset[ObservableType]]
    #: By which hashes it knows files; None: by all of ours.
    hash_algorithms: ClassVar[Collection[str] | None] = None
    #: The least time between two downloads of its lists.
    refresh_every: ClassVar[timedelta] = timedelta(hours=1)

    def unaskable(self, observable: Observable) -> NoAnswer | None:
        """Why this value of one of its ``types`` cannot be asked about; None: it can."""
        known = self.hash_algorithms
        if observable.type is not ObservableType.FILE or known is None or observable.hash_algorithm in known:
            return None
        return NoAnswer(Answer.NOT_APPLICABLE, f"no {observable.hash_algorithm} here")

    def answers(
        self, observables: Sequence[Observable], copies: Sequence[Mapping[str, Any]], *, now: datetime
    ) -> list[Reputation]:
        """
        What our copies of its lists say, without asking anybody. A value that is not among the answers is asked about.

        :param copies: what :meth:`refresh_all` gave
        """
        return []

    def questions(self, observables: Sequence[Observable]) -> list[Question]:
        """What to ask about these values, in this order; a value that was answered is left out of later questions."""
        return [Question(tuple(observables), look_up)]

    def refresh_all(
        self, *, now: datetime, not_before: timedelta, meter: Callable[[str], Meter]
    ) -> list[dict[str, Any]]:
        """
        Bring our copies of its lists up to date. Gives a reference for each list.

        :param not_before: a list that was asked for more recently is not asked for
        :param meter: the quota of a kind of call
        """
        raise NotImplementedError

    def kept_copies(self) -> list[dict[str, Any]]:
        """The references of the copies that there are; nobody is asked."""
        return []


def look_up(hook: Any, observables: Sequence[Observable]) -> list[Reputation]:
    """One call of the hook's ``lookup`` for each value."""
    return [hook.lookup(observable) for observable in observables]


def count_calls(questions: Sequence[Question], first_kind: str) -> Counter[str]:
    """
    How many calls of each kind the questions are, where each is answered.

    :param first_kind: the kind of the provider's first quota
    """
    calls, answered = Counter[str](), set[Observable]()
    for question in questions:
        left = [o for o in dict.fromkeys(question.observables) if o not in answered]
        calls[first_kind if question.kind is None else question.kind] += -(-len(left) // question.at_once)
        answered.update(left)
    return calls


def clock_words(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


@dataclass
class Meter:
    """
    One account of one task: its breaker and its quotas.

    :param quotas: of all kinds; those of the account's name count
    :param now: the clock
    :param wait: waits for so many seconds
    :param kept_share: the share of each lasting quota that these calls leave to others
    """

    ledger: Ledger
    account: Account
    quotas: Sequence[Quota]
    rules: EnrichmentPolicy
    backfill: bool
    now: Callable[[], datetime]
    wait: Callable[[float], None]
    kept_share: float = 0.0
    #: How much of ``longest_wait_seconds`` is gone, and calls that are reserved and not made.
    waited: float = 0
    left: int = 0
    _reservation: Reservation | None = None
    _seen: QuotaSeen | None = None
    #: The breaker was open, and no good answer has come since.
    doubtful: bool = False

    def __post_init__(self) -> None:
        self.quotas = [quota for quota in self.quotas if quota.name == self.account.name]

    @property
    def has_lasting_quota(self) -> bool:
        """Whether calls that are used up now may be missed for hours."""
        return any(kept_calls(quota, quota.calls, 1.0) for quota in self.quotas)

    def closed(self) -> NoAnswer | None:
        """Whether the breaker is open, and for how long."""
        admission = self.ledger.quotas.admit(self.account, now=self.now())
        self.doubtful = admission.probe
        if admission.closed_until is None:
            return None
        return self._later(f"left alone after: {admission.why}", admission.closed_until)

    def reserve(self, wanted: int) -> NoAnswer | None:
        """
        Get calls to make into ``left``, waiting for them if that is not for long.

        :return: why there are none
        """
        self.give_back()
        while True:
            now = self.now()
            reservation = self.ledger.quotas.reserve(
                self.account,
                self.quotas,
                wanted,
                backfill=self.backfill,
                live_share=self.rules.live_share,
                now=now,
                kept_share=self.kept_share,
            )
            if reservation.granted or reservation.again_at is None:
                self._reservation, self.left = reservation, reservation.granted
                return None
            seconds = max(0.001, (reservation.again_at - now).total_seconds())
            if self.waited + seconds > self.rules.longest_wait_seconds:
                return self._later(reservation.why, reservation.again_at)
            self.waited += seconds
            self.wait(seconds)

    def observe(self, seen: QuotaSeen | None) -> None:
        """What an answer's headers said. Of several, that which leaves least: answers overtake each other."""
        if seen is None:
            return
        known = self._seen.remaining if self._seen else None
        if known is None or (seen.remaining is not None and seen.remaining < known):
            self._seen = seen

    def give_back(self) -> None:
        """Give back what was not used, and let the ledger know what the answers said."""
        if self._reservation is not None:
            self.ledger.quotas.give_back(
                self.account,
                self._reservation,
                unused=self.left,
                seen=self._seen,
                backfill=self.backfill,
                now=self.now(),
            )
        self._reservation, self._seen, self.left = None, None, 0

    def recover(self) -> None:
        """A good answer: the breaker, where it was open, is closed."""
        if self.doubtful:
            self.doubtful = False
            self.ledger.quotas.close_breaker(self.account)

    def open(self, error: VendorError) -> NoAnswer:
        """Open the breaker. How long is the provider's word where it gave one, else the policy's."""
        breaker = self.rules.breaker
        pause = shut_for(self.quotas, error.retry_after) if isinstance(error, RateLimited) else None
        reason = f"{error.vendor} {error.operation}: {error.reason}"
        until = self.ledger.quotas.open_breaker(
            self.account,
            reason=reason,
            pause=pause,
            first_pause=timedelta(minutes=breaker.first_minutes),
            longest_pause=timedelta(minutes=breaker.longest_minutes),
            now=self.now(),
        )
        return self._later(reason, until)

    @staticmethod
    def _later(why: str, until: datetime) -> NoAnswer:
        return NoAnswer(Answer.NOT_CHECKED, f"{why}; asked again from {clock_words(until)} on", until)


@contextmanager
def metered(meter: Meter) -> Iterator[None]:
    """
    One call, outside of a round of questions (a download, say).

    :raises RateLimited: the quota is used up or the breaker is open; nothing was sent
    """
    refused = meter.closed() or meter.reserve(1)
    if refused is not None:
        seconds = (refused.retry_at - meter.now()).total_seconds() if refused.retry_at else None
        raise RateLimited(
            meter.account.provider, meter.account.name, refused.why, retry_after=seconds, status=None
        ) from None
    meter.left -= 1
    try:
        yield
    except RateLimited as error:
        meter.open(error)
        raise
    else:
        meter.recover()
    finally:
        meter.give_back()


@dataclass
class _Call:
    """Values that one call asks about. ``error`` is that of an earlier try."""

    observables: tuple[Observable, ...]
    error: VendorError | None = None


@dataclass
class Round:
    """
    One round of questions of one kind.

    The first question goes alone: it shows whether the key works and what is left of the quota. Then the others go side
    by side. What one value's call meets costs that value: a ``Rejected`` at once (a list of values is halved until the
    bad one is alone), anything that may be a blip after a second try at the end. A 429, a wrong key, or several
    failures in a row end the round, and the breaker keeps it from being begun again too soon.

    :param call: asks about values, with the given hook
    :param known: what the ledger has about values; another run may have asked meanwhile
    :param keep: stores answers; called now and then, so that a task that dies loses few
    """

    call: Call
    hook: VendorHook
    meter: Meter
    known: Callable[[Sequence[Observable]], Mapping[str, Reputation]]
    keep: Callable[[Sequence[Reputation]], None]
    results: dict[Observable, Reputation | NoAnswer] = field(default_factory=dict)
    #: Set when the round ends early.
    stopped: NoAnswer | None = None
    calls: int = 0
    _queue: deque[_Call] = field(default_factory=deque)
    _unstored: list[Reputation] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _failures: int = 0
    _proven: bool = False

    def run(self, observables: Sequence[Observable], *, at_once: int = 1) -> dict[Observable, Reputation | NoAnswer]:
        """
        :param observables: in the order in which they are to be asked about
        :param at_once: how many values one call takes
        :return: each of them with its answer, or why there is none
        """
        distinct = list(dict.fromkeys(observables))
        self._queue.extend(
            _Call(tuple(distinct[start : start + at_once])) for start in range(0, len(distinct), at_once)
        )
        if distinct and (closed := self.meter.closed()):
            self._stop(closed)
        try:
            while not self._proven and self._next(self.hook):
                pass
            others = min(self.meter.rules.connections, len(self._queue)) - 1
            if others > 0:
                # Made here: the connection is read in the task's own thread, and only once.
                hooks = [self.hook.sibling() for _ in range(others)]
                with ThreadPoolExecutor(others, thread_name_prefix=self.meter.account.provider) as pool:
                    done = [pool.submit(self._work, hook) for hook in hooks]
                    self._work(self.hook)
                for hook in hooks:
                    hook.close()
                for one in done:
                    one.result()
            else:
                self._work(self.hook)
        finally:
            self._flush()
            self.meter.give_back()
        return {observable: self.results[observable] for observable in distinct}

    def _work(self, hook: VendorHook) -> None:
        try:
            while self._next(hook):
                pass
        except BaseException:
            with self._lock:  # a bug in one thread: the others need not use up the quota first
                self._stop(NoAnswer(Answer.ERROR, "the task failed"))
            raise

    def _next(self, hook: VendorHook) -> bool:
        """Ask one question. False: there is none left to be asked now."""
        with self._lock:
            question = self._take()
        if question is None:
            return False
        hook.seen_quota = None
        try:
            said = self.call(hook, question.observables)
        except VendorError as error:
            with self._lock:
                self.meter.observe(hook.seen_quota)
                self._failed(question, error)
        else:
            with self._lock:
                self.meter.observe(hook.seen_quota)
                self._answered(question, said)
        return True

    def _take(self) -> _Call | None:
        if not self.meter.left and self._queue and self.stopped is None:
            self._flush()
            if (unknown := self._look_again()) and (refused := self.meter.reserve(unknown if self._proven else 1)):
                self._stop(refused)
        if not self._queue or self.stopped is not None:
            return None
        self.meter.left -= 1
        self.calls += 1
        return self._queue.popleft()

    def _look_again(self) -> int:
        """
        Leave out of the next questions what another run has been told since this one began.

        :return: how many questions come next of which nobody knows the answer
        """
        while self._queue:
            soon = [
                self._queue.popleft() for _ in range(min(len(self._queue), self.meter.rules.connections * RESERVED))
            ]
            known = self.known([o for question in soon for o in question.observables])
            left = []
            for question in soon:
                self.results |= {o: known[o.key] for o in question.observables if o.key in known}
                if rest := tuple(o for o in question.observables if o.key not in known):
                    left.append(_Call(rest, question.error))
            self._queue.extendleft(reversed(left))
            if left:
                return len(left)
        return 0

    def _answered(self, question: _Call, said: Sequence[Reputation]) -> None:
        self._proven, self._failures = True, 0
        self.meter.recover()
        answers = {reputation.observable: reputation for reputation in said}
        for observable in question.observables:
            answer = answers.get(observable)
            self.results[observable] = answer or NoAnswer(Answer.ERROR, "passed over by the provider")
            if answer is not None:
                self._unstored.append(answer)

    def _failed(self, question: _Call, error: VendorError) -> None:
        if isinstance(error, Rejected):
            self._proven, self._failures = True, 0
            self.meter.recover()
            half = len(question.observables) // 2
            if half:
                halves = (question.observables[:half], question.observables[half:])
                self._queue.extendleft(_Call(part) for part in reversed(halves))
            else:
                self._unanswered(question, NoAnswer(Answer.ERROR, str(error)))
            return
        # Calls that were under way when the round was stopped do not open the breaker once more.
        first = self.stopped is None
        if isinstance(error, Unauthorized):
            # To be finished as soon as a person has mended the connection: each run finds out with one call.
            wrong = NoAnswer(Answer.ERROR, str(error), self.meter.now())
            self._unanswered(question, wrong)
            self._stop(wrong)
        elif isinstance(error, RateLimited):
            if first:
                self._stop(self.meter.open(error))
            self._unanswered(question, self.stopped or NoAnswer(Answer.NOT_CHECKED, str(error)))
        else:
            self._failures += 1
            again = isinstance(error, Unavailable) and question.error is None
            if again:
                self._queue.append(_Call(question.observables, error))
            else:
                retry_at = self.meter.now() if isinstance(error, Unavailable) else None
                self._unanswered(question, NoAnswer(Answer.ERROR, str(error), retry_at))
            enough = 1 if self.meter.doubtful else self.meter.rules.breaker.failures
            if first and self._failures >= enough:
                self._stop(self.meter.open(error))
            elif again and not first:
                self._stop(self.stopped)

    def _unanswered(self, question: _Call, why: NoAnswer) -> None:
        self.results |= dict.fromkeys(question.observables, why)

    def _stop(self, why: NoAnswer | None) -> None:
        """Ask no more: what is still in the queue gets this as its answer, or the error that it met itself."""
        self.stopped = self.stopped or why
        if self.stopped is None:
            return
        while self._queue:
            question = self._queue.popleft()
            own = NoAnswer(Answer.ERROR, str(question.error), self.stopped.retry_at) if question.error else None
            self._unanswered(question, own or self.stopped)

    def _flush(self) -> None:
        self.keep(self._unstored)
        self._unstored = []
