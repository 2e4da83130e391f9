"""What a running task gets from the configuration."""

from __future__ import annotations

import ipaddress
import os
from contextlib import closing
from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath

import threat_response.groups  # noqa: F401 - says which providers there are
from include.soar.ledger import SQLAlchemyError
from include.soar.model import Action, ActionBatch, Outcome, Verb
from include.soar.policy.rules import PolicyError
from tests.soar.examples import CONFIG, address, at, domain
from threat_response.registry import SERVES
from threat_response.runtime import settings


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    assert set(SERVES["enrich"]) == settings.KNOWN_PROVIDERS
    for name in settings.OLD_VARIABLES:
        monkeypatch.delenv(f"THREAT_RESPONSE_{name.upper()}", raising=False)
        monkeypatch.delenv(f"AIRFLOW__THREAT_RESPONSE__{name.upper()}", raising=False)
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    return tmp_path


def test_the_policy_is_the_shipped_one_unless_the_environment_names_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not settings.policy().never_block.documentation_ranges_are_real
    own = tmp_path / "own.yaml"
    own.write_text("block: {maximum_per_run: 7}\n", encoding="utf-8")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{CONFIG / 'policy.yaml'}:{own}")
    assert settings.policy().block.maximum_per_run == 7
    assert settings.policy() is settings.policy()  # read once
    own.write_text("block: {maximum_per_run: 8}\n", encoding="utf-8")
    os.utime(own, ns=(1, 1))
    assert settings.policy().block.maximum_per_run == 8  # and again once it was changed


def test_a_policy_that_is_wrong_or_absent_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", str(tmp_path / "nowhere.yaml"))
    with pytest.raises(PolicyError, match=r"nowhere\.yaml: No such file"):
        settings.policy()
    (tmp_path / "wrong.yaml").write_text("block: 5", encoding="utf-8")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", str(tmp_path / "wrong.yaml"))
    with pytest.raises(PolicyError, match=r"wrong\.yaml.*block"):
        settings.policy()


SLIPS = {
    "broken": "enrichment: {providers: [virustotal",
    "unknown": "enrichment: {providers: [virus_total]}",
    "twice": "enrichment: {providers: [misp, misp]}",
    "one word": "enrichment: {providers: misp}",
    "numbers": "enrichment: {providers: [1, {a: b}]}",
    "a list": "- enrichment",
    "a word": "enrichment: off",
    "no date": "enrichment: {providers: 2026-13-45}",
    "contains itself": "enrichment: &e {providers: *e}",
    "binary": "\x00\xff",
}


@pytest.mark.parametrize("slip", SLIPS)
def test_n16_a_slip_in_the_policy_leaves_the_dag_its_last_good_providers(
    home: Path, monkeypatch: pytest.MonkeyPatch, slip: str
) -> None:
    """A DAG that is gone reads no hour, and only who looks at the list of DAGs learns of it."""
    own = home / "own.yaml"
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", str(own))
    own.write_text("enrichment: {providers: [misp, taxii]}", encoding="utf-8")
    assert settings.providers() == ("misp", "taxii")
    own.write_bytes(SLIPS[slip].encode("latin-1"))
    assert settings.providers() == ("misp", "taxii")
    with pytest.raises(PolicyError, match=r"own\.yaml"):
        settings.policy()
    own.unlink()
    assert settings.providers() == ("misp", "taxii")
    own.write_text("enrichment: {providers: []}", encoding="utf-8")  # a choice, no slip
    assert settings.providers() == ()


def test_n16_without_a_last_good_list_the_shipped_policys_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", str(home / "own.yaml"))
    shipped = settings.providers()
    assert shipped == ("abuseipdb", "list_feed")
    (home / settings.PROVIDERS_FILE).write_text('["nobody"]', encoding="utf-8")  # another release's
    assert settings.providers() == shipped
    monkeypatch.setattr(settings, "SHIPPED_POLICY", home / "own.yaml")
    assert settings.providers() == ()


def test_reading_the_dag_makes_no_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(home / "not-there"))
    assert settings.providers() == ("abuseipdb", "list_feed")
    assert list(home.iterdir()) == []


def test_n16_a_provider_that_there_is_not_is_refused_wherever_it_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = home / "own.yaml"
    own.write_text(
        "enrichment:\n  providers: [misp, virus_total]\n  quotas: {abuse_ipdb: []}\n"
        "  tlp:\n    providers:\n      mips: GREEN\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{CONFIG / 'policy.yaml'}:{own}")
    with pytest.raises(PolicyError) as refused:
        settings.policy()
    assert [line.partition(" is none of ")[0] for line in str(refused.value).split("\n")] == [
        f"{own}:2: enrichment.providers[1]: 'virus_total'",
        f"{own}:3: enrichment.quotas.abuse_ipdb: 'abuse_ipdb'",
        f"{own}:6: enrichment.tlp.providers.mips: 'mips'",
    ]


def test_the_gate_is_the_policys_at_the_time_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = "{value: 203.0.113.7, until: 2026-11-24, owner: a, reason: b}"
    (tmp_path / "own.yaml").write_text(f"never_block: {{allow: [{entry}]}}", encoding="utf-8")
    layers = [CONFIG / "policy.yaml", CONFIG / "policy.demo.yaml", tmp_path / "own.yaml"]
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", ":".join(map(str, layers)))
    evil, listed = address("203.0.113.7"), domain("www.google.com")
    before, after = settings.gate(at("2026-11-24T23:59")), settings.gate(at("2026-11-25T00:00"))
    assert before.check(evil) is not None
    assert after.check(evil) is None
    assert before.check(listed) is not None
    assert settings.gate(at("2026-11-24T12:00")) is before  # made once for the same entries
    monkeypatch.setattr(settings, "now", lambda: at("2026-11-24T12:00"))
    assert settings.gate() is before


def test_what_people_allow_in_the_ledger_counts_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (CONFIG / "policy.yaml", CONFIG / "policy.demo.yaml")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", ":".join(map(str, layers)))
    now, evil = at("2026-11-24T12:00"), address("203.0.113.7")
    assert settings.gate(now).check(evil) is None
    assert not (home / "ledger.db").exists()  # asking makes none: an empty one would be a green light elsewhere
    until = at("2026-11-24T18:00")
    with closing(settings.ledger()) as ledger:
        who = {"owner": "web team", "reason": "load test", "by": "anna", "now": now}
        ledger.allows.add("203.0.113.0/24", until=until, **who)
        gate = settings.gate(now)
        hit = gate.check(evil)
        assert hit is not None
        assert (hit.layer, "load test" in hit.reason) == ("allow", True)
        assert settings.gate(at("2026-11-24T17:59")) is gate  # made once for the same entries
        assert settings.gate(until).check(evil) is None
        assert settings.policy_gate().check(evil) is None
        # What is in force already is told, to be lifted.
        blocked = Action(control="waf", verb=Verb.DENY, observable=evil, outcome=Outcome.BLOCKED)
        ledger.actions.record(ActionBatch(control="waf", actions=(blocked,)), run_id="r", now=now)
        assert [row.observable for row, _ in ledger.actions.cancel_protected(gate, run_id="r", now=now)] == [evil.key]
        ledger.allows.end("203.0.113.0/24", by="anna", reason="done", now=now)
        assert settings.gate(now).check(evil) is None


def test_a_ledger_that_cannot_be_read_gives_no_gate(home: Path) -> None:
    """What it allows is not known, so nothing may be blocked."""
    (home / "ledger.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(SQLAlchemyError):
        settings.gate()


def test_the_as_table_is_the_policys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert settings.asns() is None
    table, own = tmp_path / "table.tsv", tmp_path / "own.yaml"
    own.write_text(f"block: {{asn_table: {table}}}", encoding="utf-8")
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__POLICY", f"{CONFIG / 'policy.yaml'}:{own}")
    with pytest.raises(PolicyError, match=r"^block\.asn_table: .*table\.tsv: no such file$"):
        settings.asns()
    table.write_text("203.0.113.0\t203.0.113.255\t64496\tXX\tOf example\n", encoding="utf-8")
    asns = settings.asns()
    assert asns is not None
    assert asns.get(ipaddress.ip_address("203.0.113.7")) == 64496
    assert settings.asns() is asns


def test_the_ledger_and_the_archive_lie_in_the_home(home: Path) -> None:
    assert settings.ledger().database.url == f"sqlite:///{home}/ledger.db"
    uri = settings.archive_write(settings.archive() / "a/b" / "c.gz", b"x")
    assert uri == f"file://{home}/archive/a/b/c.gz"
    assert ObjectStoragePath(uri).read_bytes() == b"x"


def test_the_archive_may_lie_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__ARCHIVE", f"file://{tmp_path}/elsewhere")
    assert settings.archive_write(settings.archive() / "c", b"x") == f"file://{tmp_path}/elsewhere/c"


def test_the_home_is_airflows_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__THREAT_RESPONSE__HOME")
    monkeypatch.setenv("AIRFLOW_HOME", "/somewhere")
    assert settings.home() == Path("/somewhere/threat-response")


@pytest.mark.parametrize("name", settings.OLD_VARIABLES)
def test_the_section_goes_before_the_older_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    section, variable = f"AIRFLOW__THREAT_RESPONSE__{name.upper()}", f"THREAT_RESPONSE_{name.upper()}"
    monkeypatch.delenv(section, raising=False)
    assert settings.option(name) is None
    monkeypatch.setenv(variable, "/old")
    assert settings.option(name) == "/old"
    monkeypatch.setenv(section, "/new")
    assert settings.option(name) == "/new"
    monkeypatch.setenv(section, "")
    assert settings.option(name) == "/old"


def test_the_ledgers_connection_may_have_another_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.option("ledger_connection") == "threat_response_ledger"
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__LEDGER_CONNECTION", "soc_ledger")
    assert settings.ledger_url() == f"sqlite:///{home}/ledger.db"
    monkeypatch.setenv("AIRFLOW_CONN_SOC_LEDGER", "postgres://user:a%2Fb@db.example:5433/soc")
    assert settings.ledger_url() == "postgresql+psycopg2://user:a%2Fb@db.example:5433/soc"


def test_whether_a_connection_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SETTINGS_TEST", "{}")
    assert settings.connection_exists("settings_test")
    assert not settings.connection_exists("settings_test_of_nobody")
