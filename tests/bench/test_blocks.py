"""Blocks by the thousand: how many calls they take, which no clock tells."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from include.bench.blocks.__main__ import least_of, render
from include.bench.blocks.minimum import minimum
from include.bench.blocks.story import LIST_ID, Measured, Story, seeds
from include.simulators.akamai_client_lists import AkamaiClientListsSimulator
from include.simulators.crowdstrike_falcon import CrowdStrikeFalconSimulator
from include.simulators.splunk import SplunkSimulator
from tests.stages.controls import POLICY
from tests.support import SimServer
from tests.vendors.support import connect

COUNT = 100


@pytest.fixture
def story(sim: SimServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Story:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", POLICY)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    lists, falcon, splunk = (
        s.settings for s in (AkamaiClientListsSimulator, CrowdStrikeFalconSimulator, SplunkSimulator)
    )
    connect(
        monkeypatch,
        "akamai_client_lists_default",
        "akamai_client_lists",
        sim,
        login=lists["client_token"],
        password=lists["client_secret"],
        access_token=lists["access_token"],
        list_id=LIST_ID,
        network="PRODUCTION",
    )
    connect(
        monkeypatch,
        "crowdstrike_falcon_default",
        "crowdstrike_falcon",
        sim,
        login=falcon["client_id"],
        password=falcon["client_secret"],
    )
    connect(monkeypatch, "splunk_default", "splunk", sim, password=splunk["token"])

    def take_calls() -> Counter[str]:
        calls = Counter(call["product"] for call in sim.world.calls)
        sim.world.calls.clear()
        return calls

    story = Story(COUNT, take_calls)
    for product, data in seeds(story.now):
        sim.seed(product, data)
    return story


def test_so_many_blocks_take_so_many_calls(story: Story) -> None:
    calls = {step.name: (step.calls.total(), least_of(step.name, COUNT)) for step in story.run()}

    assert calls == CALLS


#: Calls of ours and the fewest that are possible. Splunk's hook deletes one document a call.
CALLS: dict[str, tuple[int, int]] = {
    "plan": (7, 5),
    "apply akamai_client_lists": (8, 5),
    "confirm akamai_client_lists": (2, 2),
    "apply crowdstrike_falcon": (9, 4),
    "apply splunk": (10, 7),
    "unchanged": (8, 6),
    "ask to lift": (0, 0),
    "lift akamai_client_lists": (9, 5),
    "lift crowdstrike_falcon": (8, 4),
    "lift splunk": (109, 4),
}


def test_what_does_not_fit_into_one_call_takes_another() -> None:
    assert minimum("plan crowdstrike_falcon", 500) + 1 == minimum("plan crowdstrike_falcon", 501)
    assert minimum("apply splunk", 1_000) + 1 == minimum("apply splunk", 1_001)
    assert minimum("apply akamai_client_lists", 1) == minimum("apply akamai_client_lists", 10_000)


def test_the_table_says_what_grows_faster_than_the_number() -> None:
    def steps(seconds: float) -> list[Measured]:
        return [Measured("lift splunk", seconds, Counter(splunk=8))]

    lines = [line.split() for line in render([(10, steps(1.0), 50), (100, steps(20.0), 70)]).splitlines()]
    assert ["lift", "splunk", "1", "20", "2.00", "x", "8", "4", "2", "x"] in lines
