"""Stages 6, 7 and 8: an enforcement point acts on the decision's indicators, and a sensor waits until it does."""

from __future__ import annotations

from threat_response.stages.control.confirm import Confirm
from threat_response.stages.control.operator import Control
from threat_response.stages.control.survey import Held, Incidents, Ours, Result, Survey, decided_by_a_person

__all__ = ["Confirm", "Control", "Held", "Incidents", "Ours", "Result", "Survey", "decided_by_a_person"]
