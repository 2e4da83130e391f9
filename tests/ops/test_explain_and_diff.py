"""The command line: is a stored verdict made again bit for bit, and is another policy's difference told truly?"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from include.ops.commands import CannotAnswer, observable_of
from include.ops.policy_diff import GoodValues
from include.ops.text import safe
from include.soar.extract.case import case_of
from include.soar.judge.decision import decide as decide_case
from include.soar.judge.decision import history_period
from include.soar.ledger import Ledger
from include.soar.model import FetchBatch, Observable, ObservableType, ReputationBatch, Role, Severity
from include.soar.policy.file import load_policy
from include.soar.policy.rules import Policy
from tests.ops.commands import main
from tests.soar.deciding import basis
from tests.soar.examples import CONFIG, NOW, address, domain, finding, mention, reputation, window

HOUR = timedelta(hours=1)
TWICE, ONCE, PARTNER = "203.0.113.7", "203.0.113.8", "198.51.100.201"
DEMO = f"{CONFIG}/policy.yaml:{CONFIG}/policy.demo.yaml:{Path(__file__).parent}/cautious.yaml"
HOSTILE = "listed\x1b[2J by evil.example \u202e"


def cautious() -> Policy:
    return load_policy([Path(path) for path in DEMO.split(":")])


def decide(
    ledger: Ledger,
    rules: Policy,
    run_id: str,
    hours: int,
    *,
    severity: Severity = Severity.HIGH,
    values: Sequence[str] = (TWICE, ONCE, PARTNER),
) -> None:
    """A run as the DAG makes it: TWICE and PARTNER are listed by both sources, ONCE by AbuseIPDB only."""
    seen = NOW - hours * HOUR
    event = finding(run_id, seen=seen, severity=severity, mentions=(mention(" ".join(values), Role.ATTACKER),))
    fetched = FetchBatch(source="a", window=window(), pages=1, records=1, archive=(), digest="d", findings=(event,))
    case = case_of([fetched])
    listed = [reputation(address(v)).model_copy(update={"summary": HOSTILE}) for v in values]
    again = [reputation(address(v), 100 if v != ONCE else 0, provider="list_feed") for v in values]
    answers: dict[str, ReputationBatch | None] = {
        "abuseipdb": ReputationBatch(provider="abuseipdb", reputations=tuple(listed)),
        "list_feed": ReputationBatch(provider="list_feed", reputations=tuple(again)),
    }
    since, before = history_period(case, rules)
    about = [item.observable for item in case.observed]
    history = ledger.verdicts.history(about, since=since, before=before, known_before=seen)
    ledger.verdicts.record(
        decide_case(case, answers, basis(rules, seen), history=history).judgements,
        policy=rules,
        minimum_severity=None,
        run_id=run_id,
        now=seen,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder whose ledger has two runs, an hour apart."""
    folder = tmp_path_factory.mktemp("home")
    with contextlib.closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger:
        decide(ledger, cautious(), "run-1", 5)
        decide(ledger, cautious(), "run-2", 4, severity=Severity.CRITICAL)
    return folder


@pytest.fixture(autouse=True)
def _environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(home))
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", DEMO)


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(words)
    output = capsys.readouterr()
    return code, output.out + output.err


def changed(tmp_path: Path, changes: str) -> str:
    """The demo's policy with changes laid over it, as the command takes it."""
    (tmp_path / "changes.yaml").write_text(changes, encoding="utf-8")
    return f"{DEMO}:{tmp_path}/changes.yaml"


# --- explain -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [TWICE, "203[.]0[.]113[.]7", "203.0.113(dot)7", "::ffff:203.0.113.7"])
def test_explain_finds_a_value_however_it_is_written(capsys: pytest.CaptureFixture[str], written: str) -> None:
    code, said = ask(capsys, "explain", written)
    assert code == 0
    assert said.startswith("203[.]0[.]113[.]7  (ipv4-addr)\nmalicious, confidence 97\n")
    assert "run run-2" in said
    assert "made again   the same, bit for bit" in said
    assert "block_long until 2026-12-01 08:00:00 UTC (2 independent sources of grade C or better: abuseipdb" in said
    assert "; seen as attacker" in said
    reasons = said[said.index("Reasons\n") :].splitlines()
    assert [r.strip()[:12] for r in reasons[1:6]] == [
        "1. abuseipdb",
        "2. list_feed",
        "3. finding: ",
        "4. history: ",
        "5. together:",
    ]


def test_explain_tells_the_verdict_of_a_point_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ask(capsys, "explain", TWICE, "--at", "2026-11-24T07:30Z")
    assert code == 0
    assert "run run-1" in said
    assert "history" not in said
    assert ask(capsys, "explain", TWICE, "--at", "2026-11-24T06:00Z") == (
        2,
        f"the ledger has no verdict about ipv4-addr {TWICE}\n",
    )


def test_explain_says_why_a_value_was_not_blocked(capsys: pytest.CaptureFixture[str]) -> None:
    _, said = ask(capsys, "explain", ONCE)
    assert "plan         refused: evidence response.rungs: called malicious by abuseipdb (grade C)" in said
    _, said = ask(capsys, "explain", PARTNER)
    assert "gate         protected by partner policy.yaml never_block.partners.networks 198[.]51[.]100[.]200/29" in said
    assert "plan         refused: partner" in said


def test_explain_names_the_lists_that_name_a_value_and_refuse_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, said = ask(capsys, "explain", TWICE)
    assert "named by" not in said
    rented = "3.128.0.1"
    with contextlib.closing(Ledger(f"sqlite:///{tmp_path}/ledger.db")) as ledger:
        decide(ledger, cautious(), "run-1", 5, values=(rented,))
    _, said = ask(capsys, "explain", rented, "--ledger", f"sqlite:///{tmp_path}/ledger.db")
    assert "gate         not protected\n" in said
    assert "named by     amazon-aws, vpn-ipv4: warning lists that refuse nothing\n" in said


def test_foreign_text_is_neither_obeyed_nor_clickable(capsys: pytest.CaptureFixture[str]) -> None:
    _, said = ask(capsys, "explain", TWICE, "--policy", DEMO)
    assert "listed\\x1b[2J by evil[.]example \\u202e" in said
    assert "\x1b" not in said
    assert TWICE not in said
    code, said = ask(capsys, "explain", "no\x1b[2Jthing")
    assert code == 2
    assert said.startswith("no\\x1b[2Jthing is no address")


def test_explain_shows_what_another_policy_would_change(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lower = changed(tmp_path, "sources: {abuseipdb: {reliability: A}}")
    code, said = ask(capsys, "explain", ONCE, "--policy", lower)
    assert code == 0
    under = said[said.index("Under ") :]
    assert "confidence 66 -> 91" in " ".join(under.split())
    assert "refused: evidence" in under
    assert "->  watch until 2026-12-01" in under
    assert "  - abuseipdb: malicious (score 100, malicious from 75); grade C" in under
    assert "  + abuseipdb: malicious (score 100, malicious from 75); grade A" in under
    _, said = ask(capsys, "explain", ONCE, "--policy", "current")
    assert said[said.index("Under ") :].count("(no change)") == 3


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ("UPDATE verdicts SET confidence = 96", 1, "made again   DIFFERS in confidence"),
        ("UPDATE verdicts SET reasons = '[]'", 1, "made again   DIFFERS in reasons"),
        ("UPDATE verdicts SET standing = 'benign'", 1, "made again   DIFFERS in standing"),
        ("DELETE FROM policies", 1, "made again   NOT POSSIBLE: the policy"),
        ("UPDATE policies SET document = replace(document, '\"B\": 75', '\"B\": 74')", 1, "was changed in the ledger"),
        ("UPDATE verdicts SET inputs = replace(inputs, '\"score\": 100', '\"score\": 99')", 2, "they were changed"),
    ],
)
def test_explain_notices_what_was_changed_afterwards(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, change: str, code: int, told: str
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with contextlib.closing(Ledger(url)) as ledger:
        decide(ledger, cautious(), "run-1", 5, severity=Severity.CRITICAL)
        decide(ledger, cautious(), "run-2", 4, severity=Severity.CRITICAL)
        with ledger.database.engine.begin() as connection:
            assert connection.execute(text(change)).rowcount
    assert ask(capsys, "explain", TWICE, "--ledger", url)[0] == code
    assert told in ask(capsys, "explain", TWICE, "--ledger", url)[1]


def test_where_there_is_no_ledger_asking_makes_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__THREAT_RESPONSE__HOME")
    monkeypatch.delenv("AIRFLOW__THREAT_RESPONSE__HOME", raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    code, said = ask(capsys, "explain", TWICE)
    assert code == 2
    assert f"there is no ledger at sqlite:///{tmp_path}/threat-response/ledger.db" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("hxxps://evil[.]example/x", Observable(type=ObservableType.URL, value="https://evil.example/x")),
        ("Evil[.]Example", domain("evil.example")),
        (" AS64496 ", Observable(type=ObservableType.ASN, value="AS64496")),
        ("203.0.113.0/24", Observable(type=ObservableType.CIDR, value="203.0.113.0/24")),
        ("a[at]evil.example", Observable(type=ObservableType.EMAIL, value="a@evil.example")),
    ],
)
def test_what_a_person_may_ask_about(written: str, expected: Observable) -> None:
    assert observable_of(written) == expected
    with pytest.raises(CannotAnswer):
        observable_of("")


# --- policy-diff -------------------------------------------------------------------------------------------------


def test_the_same_policy_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ask(capsys, "policy-diff", "current", DEMO, "--from", "2026-11-24", "--to", "2026-11-25")
    assert code == 0
    assert said.startswith("2 runs with 6 verdicts, 2026-11-24 07:00:00 UTC to 2026-11-24 08:00:00 UTC\n")
    assert said.count("2 blocks of 1 values, 0 of them known good; 0 runs stop and ask") == 2
    for words in ("Gained by B: 0", "Lost by B: 0", "Known good, and hit: 0"):
        assert words in said


def test_a_policy_without_its_partners_hits_known_good_values(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    loose = changed(tmp_path, "sources: {abuseipdb: {reliability: A}}\nnever_block: {partners: {networks: []}}")
    code, said = ask(capsys, "policy-diff", DEMO, loose, "--from", "2026-11-24", "--to", "2026-11-25")
    assert code == 1
    assert "6 blocks of 3 values, 2 of them known good" in said
    gained = said[said.index("Gained by B: 4") : said.index("Lost by B: 0")]
    assert gained.count("203[.]0[.]113[.]8") == 2
    assert "under A: malicious, confidence 66; refused: evidence" in gained
    hits = said[said.index("Known good, and hit: 2") :]
    assert hits.count("198[.]51[.]100[.]201  by B, run run-") == 2
    assert "protected by A: partner policy.yaml never_block.partners.networks 198[.]51[.]100[.]200/29" in hits

    # The other way round the blocks are lost, and A's hits are not B's fault.
    code, said = ask(capsys, "policy-diff", loose, DEMO, "--from", "2026-11-24T08:00Z", "--to", "2026-11-25")
    assert code == 0
    assert said.startswith("1 runs with 3 verdicts")
    assert "Lost by B: 2" in said
    assert "by A, run run-2" in said


def test_a_file_says_what_else_is_good(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_text("# ours\n203.0.113.0/29  # the office\n", encoding="utf-8")
    days = ("--from", "2026-11-24", "--to", "2026-11-25")
    code, said = ask(capsys, "policy-diff", DEMO, DEMO, *days, "--good", str(good))
    assert code == 1
    assert "by A and B, run run-1; on the list of good values: 203[.]0[.]113[.]0/29" in said
    good.write_text("shop.example\nnot a name\n", encoding="utf-8")
    code, said = ask(capsys, "policy-diff", DEMO, DEMO, *days, "--good", str(good))
    assert code == 2
    assert "line 2: 'not a name' is no address" in said


def test_runs_that_would_stop_and_ask_are_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    capped = changed(tmp_path, "sources: {abuseipdb: {reliability: A}}\nblock: {maximum_per_run: 1}")
    _, said = ask(capsys, "policy-diff", DEMO, capped, "--from", "2026-11-24", "--to", "2026-11-25")
    assert "4 blocks of 2 values, 0 of them known good; 2 runs stop and ask" in said


def test_a_wrong_policy_is_told_with_its_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, said = ask(capsys, "policy-diff", DEMO, changed(tmp_path, "block:\n  roles: [claim]"))
    assert code == 2
    assert f"{tmp_path}/changes.yaml:2: block.roles: claim can never be blocked" in said


def test_good_values_hold_what_lies_in_them() -> None:
    good = GoodValues(["198.51.100.0/24", "2001:db8::/32", "203.0.113.7", "Shop.Example.", ""])
    network = Observable(type=ObservableType.CIDR, value="198.51.100.64/26")
    held = [address("198.51.100.9"), address("2001:db8::9"), address("203.0.113.7"), domain("a.shop.example"), network]
    assert all(good.entry(o) for o in held)
    wider = Observable(type=ObservableType.CIDR, value="198.51.0.0/16")
    others = [address("198.51.101.9"), address("203.0.113.8"), domain("notshop.example"), wider]
    assert not any(good.entry(o) for o in others)


def test_numbers_are_no_names() -> None:
    formula = "together: 100 × (1 − 0.40 × 0.10) = 96"
    assert safe(formula) == formula
    assert safe("block.roles allows attacker") == "block.roles allows attacker"
    assert safe("see http://evil.example/a.html from 203.0.113.7") == (
        "see hxxp://evil[.]example/a[.]html from 203[.]0[.]113[.]7"
    )
    assert json.loads(json.dumps(safe("\ud800"))) == "\\ud800"
    assert safe("block.widest_prefix.ipv4 of policy.yaml") == "block.widest_prefix.ipv4 of policy.yaml"
    # Names that an attacker may choose.
    assert safe("block.evidence.evil.example") == "block[.]evidence[.]evil[.]example"
    assert safe("policy.yaml.evil.example") == "policy[.]yaml[.]evil[.]example"
    assert safe("http://.evil.example/ x.203.0.113.7 1.5") == "hxxp://.evil[.]example/ x.203[.]0[.]113[.]7 1.5"


# --- answers-diff ------------------------------------------------------------------------------------------------


def test_what_the_sources_changed_their_minds_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    changed, same, new = address(TWICE), address(ONCE), domain("new.example")
    with contextlib.closing(Ledger(url)) as ledger:
        before = [reputation(o, 20, known_at=NOW) for o in (changed, same)]
        after = [reputation(o, score, known_at=NOW + HOUR) for o, score in ((changed, 90), (same, 20), (new, 5))]
        ledger.answers.store(
            (r.model_copy(update={"summary": HOSTILE}) if r.score == 90 else r, HOUR) for r in (*before, *after)
        )
    given = ["answers-diff", "--ledger", url, "--from", NOW.isoformat()]
    assert main([*given, "--to", (NOW + HOUR).isoformat()]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "abuseipdb: ipv4-addr 203[.]0[.]113[.]7: listed 20 (2026-11-24 12:00:00 UTC) -> "
        "listed 90 (2026-11-24 13:00:00 UTC)",
        r"    listed\x1b[2J by evil[.]example \u202e",
        "1 changed, 1 asked again and the same, new: 1 by abuseipdb",
    ]
    assert main([*given, "--to", NOW.isoformat()]) == 0
    assert capsys.readouterr().out == "0 changed, 0 asked again and the same, new: none\n"
