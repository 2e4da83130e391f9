"""Take the documents' pictures again, from a running demo. See README.md beside this file.

Needs ``pip install playwright pydantic`` in an environment of its own, and Debian's ``chromium``; no browser is
downloaded. Pressing *Test connection* asks the simulators once more; nothing else is changed.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


WAITS = "awaiting_input"
STYLE = (
    "body{font:13px sans-serif;margin:16px}table{border-collapse:collapse;margin:8px 0}"
    "td,th{border:1px solid #bbb;padding:3px 6px;text-align:left}"
)
DAG = "/dags/api_threat_response"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DOCUMENTATION = [ipaddress.ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "127.0.0.0/8")]
#: AbuseIPDB's page about an address is a link that the product makes; all other hosts of the demo are ours.
LINKED = {"127.0.0.1", "www.abuseipdb.com"}


class Photographer:
    """One page of a signed-in browser, and where its pictures go."""

    def __init__(self, page: Page, home: Path, out: Path) -> None:
        place = json.loads((home / "place.json").read_text())
        self.ui = f"http://127.0.0.1:{place['api_port']}"
        self.simulators = f"http://127.0.0.1:{place['sim_port']}"
        passwords = home / "airflow" / "simple_auth_manager_passwords.json.generated"
        self.password: str = json.loads(passwords.read_text())["admin"]
        self.page, self.out = page, out
        self.run_id = ""

    # --- the camera -----------------------------------------------------------------------------------------

    def go(self, path: str, width: int = 1440, height: int = 900) -> None:
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.goto(self.ui + path)
        self.settle()

    def settle(self, milliseconds: int = 1200) -> None:
        """Airflow's pages move into place: what they fetch, and then their transitions."""
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_timeout(milliseconds)

    def press(self, name: str, within: Page | Locator | None = None) -> None:
        (within or self.page).get_by_role("button", name=name, exact=True).first.click()
        self.settle()

    def turn_wheel(self) -> None:
        self.page.mouse.wheel(0, 40)
        self.page.wait_for_timeout(60)

    def shoot(self, name: str, of: Page | Locator | None = None) -> None:
        failed = self.page.locator("[data-scope=toast][data-type=error]")
        if failed.count():
            raise RuntimeError(f"{name}: the page shows an error: {failed.first.inner_text()}")
        (of or self.page).screenshot(path=self.out / f"{name}.png")

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog").first

    def get(self, url: str) -> Any:
        answer = self.page.request.get(url)
        if not answer.ok:
            raise RuntimeError(f"{url}: HTTP {answer.status}")
        return answer.json()

    # --- the pictures ---------------------------------------------------------------------------------------

    def sign_in(self) -> None:
        self.go("/", 1000, 660)
        self.page.locator("input[name=username]").fill("admin")
        self.page.locator("input[name=password]").fill(self.password)
        self.settle()
        self.shoot("sign-in")
        self.press("Sign in")
        runs = self.get(f"{self.ui}/api/v2{DAG}/dagRuns?run_type=scheduled&order_by=run_after")["dag_runs"]
        ended = [r["dag_run_id"] for r in runs if r["state"] == "success"]
        if not ended:
            raise RuntimeError("no scheduled run of the demo has ended green")
        self.run_id = ended[0]

    def graph(self) -> None:
        self.go(f"{DAG}/runs/{self.run_id}", 1200, 1900)
        self.press("Show Graph (Press g)")
        self.press("Expand all task groups")
        self.press("Options")
        self.page.get_by_role("combobox", name="Graph Direction").click()
        self.page.get_by_role("option", name="Top to Bottom").click()
        self.page.keyboard.press("Escape")
        self.press("Collapse Details Panel")
        self.press("Fit View")
        self.page.mouse.move(600, 20)
        self.settle()
        self.shoot("graph")
        # The other pictures show the grid beside the details.
        self.press("Show Grid (Press g)")

    def log(self) -> None:
        self.go(f"{DAG}/runs/{self.run_id}/tasks/block.waf.akamai_client_lists", 1440, 880)
        self.page.get_by_test_id("log-settings-button").click()
        self.page.get_by_role("menuitem", name="Wrap").click()
        self.page.mouse.move(900, 20)
        self.settle()
        self.shoot("task-log")

    def plan(self) -> None:
        self.go(f"{DAG}/runs/{self.run_id}/tasks/plan_blocks", 1440, 880)
        self.page.mouse.move(900, 20)
        self.settle()
        self.shoot("plan")

    def incident(self) -> None:
        """The comment that tells how far each action is proved, as Respond renders its HTML."""
        state = self.get(f"{self.simulators}/_sim/cyware_respond/state")
        told = [c["description"] for found in state["comments"].values() for c in found]
        text = max((t for t in told if "active on production" in t), key=len)
        self.page.set_viewport_size({"width": 1400, "height": 700})
        self.page.set_content(f"<style>{STYLE}</style>{text}")
        self.settle()
        self.shoot("incident")

    def approval(self) -> None:
        """Only where a run waits for its answer: README.md says how to make one."""
        runs = self.get(f"{self.ui}/api/v2{DAG}/dagRuns?state=running&order_by=-run_after")["dag_runs"]
        for run_id in (r["dag_run_id"] for r in runs):
            task = f"{DAG}/runs/{run_id}/tasks/approve_blocks"
            if self.get(f"{self.ui}/api/v2{DAG}/dagRuns/{run_id}/taskInstances/approve_blocks")["state"] == WAITS:
                self.go(f"{task}/required_actions", 1440, 1800)
                self.page.get_by_role("combobox").last.click()
                self.settle()
                self.shoot("approval")
                return

    def xcom(self) -> None:
        self.go(f"{DAG}/runs/{self.run_id}/tasks/block.waf.akamai_client_lists_active/xcom", 1440, 800)
        self.press("Expand all extra JSON")
        editor = self.page.locator(".monaco-editor").first
        editor.hover()
        # The editor holds only the lines that it shows, and moves three lines at a time, however far the wheel is
        # turned: down to the first action that is in force, and to its proof.
        found = editor.get_by_text('"blocked"')
        for _ in range(200):
            if found.count():
                break
            self.turn_wheel()
        for _ in range(3):
            self.turn_wheel()
        self.settle()
        self.shoot("xcom")

    def connections(self) -> None:
        self.go("/connections", 1000, 1700)
        row = self.page.locator("tbody tr").filter(has_text="cyware_respond_default")
        self.press("Edit Connection", row)
        self.shoot("connection-form", self.dialog)
        self.press("Extra Fields", self.dialog)
        self.shoot("connection-fields", self.dialog)

        self.go("/connections")
        rows = self.page.locator("tbody tr")
        names = [str(rows.nth(n).locator("td").nth(1).text_content()) for n in range(rows.count())]
        # Last the one whose answer says most.
        for name in sorted(names, key=lambda n: n == "akamai_client_lists_default"):
            button = rows.filter(has=self.page.get_by_text(name, exact=True)).get_by_role("button").first
            with self.page.expect_response(lambda answer: "/connections/test" in answer.url) as asked:
                # Not a click: the tooltip of the button above covers this one.
                button.press("Enter")
            if not asked.value.ok or not asked.value.json()["status"]:
                raise RuntimeError(f"{name} is not green: {asked.value.text()}")
            self.settle()
        self.shoot("test-connection")

    def forms(self) -> None:
        self.go("/dags/lift_block", 1150, 760)
        self.page.get_by_test_id("trigger-dag-button").first.click()
        self.settle()
        self.shoot("lift-form", self.dialog)
        self.go(DAG, 1150, 940)
        self.page.get_by_test_id("trigger-dag-button").first.click()
        self.settle()
        self.shoot("trigger-form", self.dialog)
        self.page.set_viewport_size({"width": 1150, "height": 1330})
        self.dialog.get_by_text("Backfill", exact=True).click()
        self.settle()
        self.shoot("backfill-form", self.dialog)


@contextmanager
def browser() -> Iterator[Page]:
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path="/usr/bin/chromium",
            args=QUIET,
            color_scheme="light",
            locale="en-US",
            timezone_id="UTC",
        )
        yield context.pages[0]
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=ROOT / ".demo", help="the demo's folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the pictures go")
    options = parser.parse_args()
    with browser() as page:
        photographer = Photographer(page, options.home, options.out)
        photographer.sign_in()
        photographer.graph()
        photographer.log()
        photographer.plan()
        photographer.xcom()
        photographer.connections()
        photographer.forms()
        photographer.approval()
        photographer.incident()


if __name__ == "__main__":
    main()
