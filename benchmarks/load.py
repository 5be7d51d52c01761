#!/usr/bin/env python3
"""A steady load on a prediction endpoint, and an honest count: what was sent, what failed, who answered.

    load.py URL BODY [--rate 250] [--new 80] [--seconds 60]

Sends the JSON file BODY to URL at `--rate` requests/s, of which `--new` open a connection of their own and the rest
keep theirs. Ends after `--seconds` or at SIGTERM or SIGINT, and prints one JSON object. A request fails when no answer
comes, when the status is not 200, or when the answer is no prediction; nothing is tried again. Standard library only.
"""

import argparse
import http.client
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

WORKERS = 8
PATIENCE = 30.0
FIRST_FAILURES = 20


@dataclass
class Count:
    """What one worker saw; `latencies` in seconds."""

    answered: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[float, str]] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)


class Worker(threading.Thread):
    """One client: a request at each of its moments, on one connection or on a new one each time."""

    def __init__(self, url: SplitResult, body: bytes, interval: float, *, keep: bool, ending: threading.Event) -> None:
        super().__init__(daemon=True)
        self.url, self.body, self.interval, self.keep, self.ending = url, body, interval, keep, ending
        self.count = Count()
        self.connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Send until told to end; a late request is sent at once, none is left out."""
        due = time.monotonic() + self.interval * (hash(self.name) % 97) / 97
        while not self.ending.wait(max(0.0, due - time.monotonic())):
            self.send()
            due += self.interval

    def send(self) -> None:
        """One request, counted."""
        started = time.monotonic()
        try:
            version = self.exchange()
        except (OSError, http.client.HTTPException, ValueError, KeyError) as wrong:
            self.count.failures.append((time.time(), f"{type(wrong).__name__}: {wrong}"))
            self.hang_up()
        else:
            self.count.answered[version] += 1
            self.count.latencies.append(time.monotonic() - started)
        if not self.keep:
            self.hang_up()

    def exchange(self) -> str:
        """Send the request and return the version that answered."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.url.hostname or "", self.url.port, timeout=PATIENCE)
        self.connection.request("POST", self.url.path, self.body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            raise ValueError(f"status {answer.status}: {text[:200]!r}")
        document = json.loads(text)
        if not document["outputs"]:
            raise ValueError("an answer without outputs")
        return str(document.get("model_version", ""))

    def hang_up(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def main() -> None:
    """Run the load and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", type=urlsplit)
    parser.add_argument("body", type=argparse.FileType("rb"))
    parser.add_argument("--rate", type=float, default=250, help="requests/s, all together")
    parser.add_argument("--new", type=float, default=80, help="requests/s of these that open a connection each")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    body = options.body.read()
    kinds = ((options.rate - options.new, True), (options.new, False))
    workers = [
        Worker(options.url, body, WORKERS / rate, keep=keep, ending=ending)
        for rate, keep in kinds
        if rate > 0
        for _ in range(WORKERS)
    ]
    started = time.monotonic()
    for worker in workers:
        worker.start()
    ending.wait(options.seconds)
    ending.set()
    for worker in workers:
        worker.join(PATIENCE + 5)
    print(json.dumps(report([worker.count for worker in workers], time.monotonic() - started)))


def report(counts: Sequence[Count], seconds: float) -> dict[str, object]:
    """All workers' counts as one object; latencies in milliseconds."""
    latencies = sorted(latency for count in counts for latency in count.latencies)
    failures = sorted(failure for count in counts for failure in count.failures)
    answered: Counter[str] = sum((count.answered for count in counts), Counter())
    return {
        "sent": len(latencies) + len(failures),
        "failed": len(failures),
        "seconds": round(seconds, 2),
        "rate": round((len(latencies) + len(failures)) / seconds, 1),
        "answered": dict(answered),
        "p50_ms": round(quantile(latencies, 0.5) * 1000, 2),
        "p99_ms": round(quantile(latencies, 0.99) * 1000, 2),
        "max_ms": round(quantile(latencies, 1) * 1000, 2),
        "failures": failures[:FIRST_FAILURES],
    }


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of an ordered list lies; 0 for an empty one."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


if __name__ == "__main__":
    main()
