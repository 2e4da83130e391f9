"""
Our memory: windows read, findings seen, reputations, verdicts and their policies, incident references, actions.

It is not the truth. The vendors' systems are asked before every write, so a lost ledger costs calls, not
correctness. SQLite by default; Postgres through the connection ``threat_response_ledger``.
"""

from include.soar.ledger.database import Ledger

__all__ = ["Ledger"]
