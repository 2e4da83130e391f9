"""Which vendor serves which stage: one line each. The DAG, the docs and the completeness test follow from here.

Importing this file imports the vendors' operators, so that a DAG file needs nothing else.
"""

from __future__ import annotations

from vendors.abuseipdb.operators import AbuseIPDBEnrichOperator
from vendors.contracts import EnrichOperator

#: task id -> operator. Every operator of a stage takes and gives the same things.
ENRICH: dict[str, type[EnrichOperator]] = {
    "abuseipdb": AbuseIPDBEnrichOperator,
}
