"""What each control was asked to do, what it reported, and what of ours is in force there."""

from include.soar.ledger.actions.records import ActionEvent, InForce, Kind, KnownAction, Lifted
from include.soar.ledger.actions.store import Actions
from include.soar.ledger.actions.times import PARTS, Timing, percentiles

__all__ = ["PARTS", "ActionEvent", "Actions", "InForce", "Kind", "KnownAction", "Lifted", "Timing", "percentiles"]
