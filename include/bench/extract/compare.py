"""The libraries, what they are asked, and what is measured: accuracy, speed and hostile texts."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from include.bench.__main__ import tell
from include.bench.extract.corpora import CORPORA, corpus, megabytes
from include.bench.measure import number, table
from include.bench.pure import HOSTILE
from include.demo.place import ROOT

#: What is installed for each. iocextract 1.16.1 imports requests without saying so.
PEERS = {
    "ioc-finder": ["ioc-finder==9.4.1"],
    "iocsearcher": ["iocsearcher==3.1.0"],
    "iocextract": ["iocextract==1.16.1", "requests==2.34.2"],
    "msticpy": ["msticpy==3.0.2"],
}
#: What each peer's names are spelled with before they are compared.
NORMALISER = "idna==3.20"
#: Types that a peer does not know are left out of what it is asked.
UNKNOWN = {
    "iocextract": {"cidr", "vulnerability", "autonomous-system"},
    "iocsearcher": {"autonomous-system"},
    "msticpy": {"cidr", "vulnerability", "autonomous-system"},
}
#: The most accurate of them, with which the speed is paired.
PAIRED = "ioc-finder"
WORKER = Path(__file__).with_name("worker.py")
CASES = ROOT / "tests/soar/extract/extraction_cases"
OBFUSCATED = {"defanged", "encoded"}

#: A text may take so many seconds, and so many seconds a megabyte.
LIMIT, PER_MEGABYTE = 10.0, 0.5
#: More hostile texts, as (name, first, repeated): what stalls one of the peers, and what could stall us.
MORE_HOSTILE = (
    ("digits", "", "1"),
    ("a:a: many", "", "http://a:a:a:"),
    ("http:// …", "", "http:// "),
    ("://…", "", "://"),
    ("url in url", "", "http://a.example/?u="),
    ("url run", "", "https://a.example/http://"),
    ("url ([{", "http://a.example/", "([{"),
    ("url []", "http://a.example/", "[]"),
    ("url dots", "http://a.example/", "."),
    ("http://[::", "", "http://[::"),
    ("userinfo", "http://", "a:b@"),
    ("http__", "", "http__"),
    ("a.b@…", "", "a.b@"),
    ("a@b.…", "", "a@b."),
    ("base64 upload", "data:application/pdf;base64,", base64.b64encode(random.Random(1).randbytes(3000)).decode()),  # noqa: S311
    ("base64 of urls", "", base64.b64encode(b"see http://a.example/b " * 30).decode() + " "),
    ("percent", "", "%"),
    ("%25", "", "%25"),
    ("%41", "", "%41"),
    ("nested percent", "", "http" + "%25" * 12 + "3A%252F%252Fa.example "),
    ("&", "", "&"),
    ("&amp;", "", "&amp;"),
    ("&#46;", "", "&#46;"),
    ("backslashes", "", "\\"),
    ("\\u0025", "", "\\u0025"),
    ("\\u002e", "", "\\u002e"),
    ("\\x2e", "", "\\x2e"),
    ("\\/", "", "\\/"),
    ("${lower:j}", "", "${${lower:j}"),
    ("a[.]", "", "a[.]"),
    ("a[.", "", "a[."),
    ("[dot]", "", "[dot]"),
    ("a dot ", "", "a dot "),
    ("a at b dot ", "", "a at b dot "),
    ("1.2.3.", "", "1.2.3."),
    ("1.2.3.4/", "", "1.2.3.4/"),
    ("1.1.1.1-", "", "1.1.1.1-"),
    ("long labels", "", "a" * 63 + "."),
    ("com.", "", "com."),
    ("a.com", "", "a.com"),
    ("2001:db8::", "", "2001:db8::"),
    ("::ffff:1.2.3.", "", "::ffff:1.2.3."),
    ("header", "X-Forwarded-For: ", "203.0.113.7, "),
    ("cookie", "Cookie: ", "k=v; "),
    ("CVE-2026-", "", "CVE-2026-"),
    ("AS1 ", "", "AS1 "),
    ("AS1.", "", "AS1."),
    ("http// hex", "", "687474702f2f"),
    ("combining marks", "a", "\u0301\u0323"),
    ("full width and ringed", "", "．ⓐ"),
    ("idn", "", "п."),
    ("mixed unicode", "", "é中а.\u200b"),
    ("full width", "", "ａ．"),
    ("right to left", "", "\u202ea"),
    ("spaces", "", " "),
    ("newlines", "", "\n"),
    ("[", "", "["),
    ("(", "", "("),
    ("json", "", '{"a":"b.example","c":['),
    ("html", "", "<a href='"),
)


class TooSlow(Exception):
    """The text took longer than it was given."""


@dataclass
class Worker:
    """An extractor in its process, started when it is needed and ended when it is too slow."""

    name: str
    python: Path
    process: subprocess.Popen[bytes] | None = None

    def ask(self, texts: Sequence[str], within: float) -> dict[str, Any]:
        """
        :return: ``found`` per text, and the CPU ``seconds`` of all
        :raises TooSlow: nothing came back within so many seconds; the process is ended
        """
        if self.process is None:
            self.process = subprocess.Popen(
                [self.python, WORKER, self.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=tempfile.gettempdir(),
            )
            self._line(120)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(texts).encode() + b"\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line(within))
        return answer

    def _line(self, within: float) -> bytes:
        assert self.process is not None
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], within)[0]:
            self.end()
            raise TooSlow(self.name)
        line = self.process.stdout.readline()
        if not line:
            self.end()
            raise RuntimeError(f"{self.name} ended by itself")
        return line

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@contextmanager
def environments(names: Sequence[str]) -> Iterator[dict[str, Worker]]:
    """Us, and each peer in an environment that is removed again; one that cannot be installed is left out."""
    workers = {"ours": Worker("ours", Path(sys.executable))}
    with tempfile.TemporaryDirectory(prefix="threat-response-peers-") as folder:
        for name in names:
            tell(f"Installing {' '.join(PEERS[name])}")
            try:
                workers[name] = Worker(name, install(Path(folder) / name, [*PEERS[name], NORMALISER]))
            except subprocess.CalledProcessError as error:
                tell(f"{name} is left out: {error.stderr.decode(errors='replace').strip()[-300:]}")
        try:
            yield workers
        finally:
            for worker in workers.values():
                worker.end()


def install(folder: Path, packages: Sequence[str]) -> Path:
    python = folder / "bin/python"
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    for command in (
        ([uv, "venv", "-q", "-p", sys.executable, folder], [uv, "pip", "install", "-q", "-p", python, *packages])
        if uv
        else ([sys.executable, "-m", "venv", folder], [python, "-m", "pip", "install", "-q", *packages])
    ):
        subprocess.run(command, check=True, capture_output=True)
    return python


# --- accuracy ----------------------------------------------------------------------------------------------------

Pair = tuple[str, str]


@dataclass
class Score:
    cases: int = 0
    exact: int = 0
    right: int = 0
    wrong: int = 0
    missed: int = 0
    negatives: int = 0
    wrong_on_negatives: int = 0

    def add(self, expected: set[Pair], found: set[Pair]) -> None:
        right, wrong, missed = len(expected & found), len(found - expected), len(expected - found)
        self.cases += 1
        self.exact += not wrong and not missed
        self.right += right
        self.wrong += wrong
        self.missed += missed
        if not expected:
            self.negatives += 1
            self.wrong_on_negatives += wrong

    @property
    def f1(self) -> float:
        return 2 * self.right / (2 * self.right + self.wrong + self.missed or 1)


def own_cases() -> list[dict[str, Any]]:
    """With names under a top-level domain that exists, since the peers know no ``.example``."""
    return [
        {
            "topic": path.stem,
            "text": registered(case["text"]),
            "expect": {kind: [registered(value) for value in values] for kind, values in case["expect"].items()},
        }
        for path in sorted(CASES.glob("*.yaml"))
        for case in yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    ]


#: Three letters shorter, so that base64 is padded as before.
_RESERVED, _REGISTERED = "example", "info"
_ESCAPES = ("%{:02X}", "&#{};", "&#x{:X};", "\\u{:04x}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")


def registered(text: str) -> str:
    """``evil.example`` -> ``evil.info``, also where it is escaped or within base64."""
    for form in _ESCAPES:
        text = text.replace(
            *("".join(form.format(ord(letter)) for letter in word) for word in (_RESERVED, _REGISTERED))
        )
    text = text.replace(_RESERVED, _REGISTERED).replace(_RESERVED.upper(), _REGISTERED.upper())
    text = text.replace(_RESERVED.title(), _REGISTERED.title())
    return _BASE64.sub(lambda match: _registered_within(match[0]), text)


def _registered_within(written: str) -> str:
    body = written.rstrip("=")
    padding = "=" * (-len(body) % 4)
    url_safe = "-" in body or "_" in body
    try:
        raw = base64.b64decode(body.replace("-", "+").replace("_", "/") + padding, validate=True).decode("latin-1")
    except ValueError:
        return written
    is_utf16 = raw[1::2].strip("\0") == ""
    text = raw[::2] if is_utf16 else raw
    new = registered(text)
    if new == text:
        return written
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    encoded = encode(new.encode("utf-16-le" if is_utf16 else "latin-1")).decode()
    return encoded if written == body + padding else encoded.rstrip("=")


_HOST = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^/?#]*@)?(?:\[([^\]]*)\]|([^/?#:]*))")


def beside(found: set[Pair]) -> set[Pair]:
    """What comes with others: hosts of URLs, domains of e-mail addresses, addresses of networks. No right, no wrong."""
    values = set()
    for kind, value in found:
        if kind == "url" and (match := _HOST.match(value)):
            values.add(match[1] or match[2])
        elif kind == "email-addr":
            values.add(value.rpartition("@")[2])
        elif kind == "cidr":
            values.add(value.partition("/")[0])
    return {(kind, value) for kind in ("domain-name", "ipv4-addr", "ipv6-addr") for value in values}


def judged(case: dict[str, Any], found: set[Pair], unknown: set[str]) -> tuple[set[Pair], set[Pair]]:
    """What was to be found and what was, without what counts as neither."""
    expected = {(kind, value) for kind, values in case["expect"].items() for value in values if kind not in unknown}
    aside = (beside(expected) | beside(found)) - expected
    return expected, {item for item in found - aside if item[0] not in unknown}


def accuracy(workers: dict[str, Worker]) -> str:
    cases = own_cases()
    rows: list[tuple[object, ...]] = []
    for name, worker in workers.items():
        all_of_them, obfuscated, too_slow = Score(), Score(), 0
        for case in cases:
            try:
                found = {(kind, value) for kind, value in worker.ask([case["text"]], LIMIT)["found"][0]}
            except TooSlow:
                found, too_slow = set(), too_slow + 1
            pairs = judged(case, found, UNKNOWN.get(name, set()))
            all_of_them.add(*pairs)
            if case["topic"] in OBFUSCATED:
                obfuscated.add(*pairs)
        share = f"{all_of_them.exact / all_of_them.cases:.1%}"
        false = f"{all_of_them.wrong_on_negatives} on {all_of_them.negatives}"
        rows.append((name, f"{all_of_them.f1:.3f}", share, false, f"{obfuscated.f1:.3f}", too_slow))
    return table(
        f"Accuracy on {len(cases):,} cases of our own",
        ("", "F1", "exact", "false on negatives", "F1 defanged, encoded", "over 10 s"),
        rows,
        "The cases are ours and we are tuned on them: the peers' columns say how they do on them, ours says little.",
        "Hosts of URLs and domains of e-mail addresses count as neither right nor wrong; nor do types a peer lacks.",
    )


# --- speed -------------------------------------------------------------------------------------------------------


def speed(workers: dict[str, Worker], size: int, rounds: int) -> str:
    """Round by round on the same text, one after the other; each round has another text, so that no cache helps."""
    rows = []
    for place, kind in enumerate(CORPORA):
        rates: dict[str, list[float]] = {name: [] for name in workers}
        for turn in range(rounds):
            texts = corpus(kind, 100 * place + turn, size)
            for name, worker in workers.items():
                if turn == 0 or name in ("ours", PAIRED):
                    rates[name].append(rate(worker, texts))
        ratios = [a / b for a, b in zip(rates["ours"], rates.get(PAIRED, []), strict=False) if b]
        shown = [number(median(rates[name])) if median(rates[name]) else f"< {size / 1e6 / 60:.2g}" for name in workers]
        density = sum(len(found) for found in workers["ours"].ask(texts, 600)["found"]) / megabytes(texts) / 1000
        rows.append((kind, f"{density:.2g}", *shown, f"{number(median(ratios))} x" if ratios else "-"))
    return table(
        f"Speed: MB of text a CPU second, median of {rounds} rounds of {number(size / 1e6)} MB",
        ("", "found a KB", *workers, f"ours by {PAIRED}"),
        rows,
        f"The ratio is the median of the rounds' ratios: above 1 x ours is faster. Others than {PAIRED} ran one round.",
    )


def rate(worker: Worker, texts: Sequence[str]) -> float:
    """MB/s; 0 where even a minute is not enough."""
    try:
        return megabytes(texts) / float(worker.ask(texts, 60)["seconds"])
    except TooSlow:
        return 0.0


# --- hostile -----------------------------------------------------------------------------------------------------

SIZE = 65_536


def hostile_texts(size: int) -> dict[str, str]:
    return {
        name: (first + repeated * (size // len(repeated) + 1))[:size]
        for name, first, repeated in (*HOSTILE, *MORE_HOSTILE)
    }


def hostile(workers: dict[str, Worker], sizes: Sequence[int]) -> str:
    """:param sizes: of the texts for ours, in characters; peers get ``SIZE``"""
    rows: list[tuple[object, ...]] = []
    for name, worker in workers.items():
        for size in sizes if name == "ours" else [SIZE]:
            spent = {what: cost(worker, text, size, name) for what, text in hostile_texts(size).items()}
            worst = max(spent, key=lambda what: spent[what])
            slow, stuck = (sum(value > most for value in spent.values()) for most in (PER_MEGABYTE, float(LIMIT * 1e3)))
            shown = number(spent[worst]) if spent[worst] < LIMIT * 1e3 else "-"
            rows.append((name, size, len(spent), slow, stuck, shown, worst))
    return table(
        "Hostile texts: does any stall it?",
        ("", "characters", "texts", "over 0.5 s/MB", "over 10 s", "worst s/MB", "which"),
        rows,
        f"A peer that needs {LIMIT * 4096 / SIZE:.2g} s for 4,096 characters counts as over 10 s for {SIZE:,}: "
        "that is what it takes if it is linear.",
    )


def cost(worker: Worker, text: str, size: int, name: str) -> float:
    """CPU seconds a megabyte; more than any limit where it did not end in time."""
    try:
        if name != "ours":
            worker.ask([text[:4096]], LIMIT * 4096 / size)
        return float(worker.ask([text], LIMIT)["seconds"]) / megabytes([text])
    except TooSlow:
        return LIMIT * 1e4
