"""The fewest calls with which a step can be done, by what each vendor documents or its clients are known to send."""

from __future__ import annotations

#: Falcon: results on one page of a search (falconpy), indicators in one write (PSFalcon), ids in one delete (SEKOIA).
FALCON_PAGE, FALCON_WRITE, FALCON_DELETE = 500, 2_000, 1_000
#: Splunk, limits.conf: ``max_documents_per_batch_save`` and ``max_rows_per_query``.
SPLUNK_WRITE, SPLUNK_ROWS = 1_000, 50_000


def minimum(step: str, count: int) -> int:
    """
    Look once, write once, read back once, as many at a time as the vendor takes.

    Client Lists publishes no limit for one write: a list of 10,000 items could come in one.

    :param step: ``plan``, ``apply``, ``confirm``, ``unchanged`` or ``lift``, a space and the product
    :param count: values
    """
    page, rows = _calls(count, FALCON_PAGE), _calls(count, SPLUNK_ROWS)
    return {
        # The list and the network's status; a write; the list again; the activation.
        "plan akamai_client_lists": 2,
        "apply akamai_client_lists": 5,
        "confirm akamai_client_lists": 2,
        "unchanged akamai_client_lists": 2,
        "lift akamai_client_lists": 5,
        # The token goes with each task.
        "plan crowdstrike_falcon": 1 + page,
        "apply crowdstrike_falcon": 1 + page + _calls(count, FALCON_WRITE) + page,
        "unchanged crowdstrike_falcon": 1 + page,
        "lift crowdstrike_falcon": 1 + page + _calls(count, FALCON_DELETE) + page,
        # Whether the collection is there. At the first write it is made, and so is its lookup definition.
        "plan splunk": 1,
        "apply splunk": 4 + rows + _calls(count, SPLUNK_WRITE) + rows,
        "unchanged splunk": 1 + rows,
        "lift splunk": 1 + rows + 1 + rows,
    }[step]


def _calls(count: int, at_once: int) -> int:
    return -(-count // at_once)
