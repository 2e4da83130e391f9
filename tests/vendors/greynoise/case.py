"""This provider at its simulator, for the two suites of all providers: without a paid plan, and with one."""

from __future__ import annotations

from tests.stages.enriching.provider_case import CLEAN, EVIL, NETWORKS_IPV4, Case

SEED = {
    "addresses": {
        EVIL.value: {"internet_scanner_intelligence": {"classification": "malicious"}},
        CLEAN.value: {"business_service_intelligence": {"name": "Example DNS", "trust_level": "1"}},
    },
    "public_networks": NETWORKS_IPV4,
}
SAID = {EVIL: 100, CLEAN: 0}
COMMUNITY = Case(
    seed=SEED,
    said=SAID,
    asked=lambda call: [call["path"].rpartition("/")[2]],
    refuse=(CLEAN, "status", {"status": 400, "path": CLEAN.value}),
    odd=({"classification": "odd"},),
    needs_a_key=False,
    plan="community",
)
PAID = Case(
    seed=SEED,
    said=SAID,
    asked=lambda call: call["body"]["ips"],
    refuse=(CLEAN, "status", {"status": 400, "body": f'"{CLEAN.value}"', "times": -1}),
    odd=({"data": None},),
    ask=lambda hook: hook.lookup_many([EVIL]),
    knobs={"plan": "paid"},
    extra={"plan": "paid"},
    plan="paid",
)
CASES = (COMMUNITY, PAID)
