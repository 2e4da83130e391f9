"""The one place where an error becomes a retry decision."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowNotFoundException

from include.soar.vendor.errors import (
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    Unexpected,
    WriteInPlanMode,
    one_line,
)

#: A vendor may ask a task to wait this long at most; AbuseIPDB's spent day would otherwise park it for hours.
LONGEST_WAIT = timedelta(minutes=15)
#: Between tries after a fault that the vendor named no time for.
FIRST_WAIT, LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=5)
#: After a 429 that names no time.
FIRST_WAIT_WHEN_LIMITED = timedelta(minutes=1)
#: A person has to act, or the item or the answer is wrong: the vendor would say the same again.
_FINAL = (Unauthorized, Rejected, Unexpected, WriteInPlanMode)
#: The same input gives the same error: a parameter, the policy, a stage that gave nothing, a missing connection, a
#: bug of ours. Not RuntimeError or OSError in general: a database or a store that was away for a moment is one.
_DETERMINISTIC = (
    ValueError,  # WindowError, PolicyError, NothingFetched, and pydantic's
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    NotImplementedError,
    AirflowNotFoundException,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)


class VendorRetryPolicy(RetryPolicy):
    """The one place where an error becomes a retry decision, for every task of every stage."""

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        doubled = 2 ** max(0, try_number - 1)
        if isinstance(exception, RateLimited):
            if exception.retry_after is None:
                wait = min(FIRST_WAIT_WHEN_LIMITED * doubled, LONGEST_WAIT)
            else:
                # A second more than asked: a vendor that counts whole seconds would refuse us once more otherwise.
                wait = min(timedelta(seconds=min(exception.retry_after, 86_400) + 1), LONGEST_WAIT)
            return RetryDecision.retry(delay=wait, reason=str(exception))
        if isinstance(exception, _FINAL):
            return RetryDecision.fail(reason=str(exception))
        if isinstance(exception, Unavailable):
            # 10 s, 20 s, 40 s … up to five minutes: a blip costs seconds, an outage does not burn all tries at once.
            wait = min(FIRST_WAIT * doubled, LONGEST_PAUSE)
            return RetryDecision.retry(delay=wait, reason=str(exception))
        if isinstance(exception, _DETERMINISTIC):
            return RetryDecision.fail(reason=f"no retry can mend it: {type(exception).__name__}: {one_line(exception)}")
        return RetryDecision.default()
