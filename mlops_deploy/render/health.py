"""The health check of a container: when it counts as ready, when as failed, and what it asks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mlops_deploy.spec.deploy import GoldenRequest

RETRIES: Final = 3
LONGEST: Final = 10.0
SHORTEST: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """When a health check runs; seconds.

    While `start_period` lasts it runs every `start_interval`, success ends the wait and failure counts for nothing;
    afterwards `retries` failures in a row, `interval` apart, make the container unhealthy.
    """

    start_period: float
    interval: float
    timeout: float
    start_interval: float = 1.0
    retries: int = RETRIES


def rhythm(deadline: float) -> Rhythm:
    """The rhythm with which a server that never gets ready is unhealthy `deadline` seconds after its start.

    A check that hangs rather than fails adds its timeout, at most `RETRIES` times.
    """
    interval = min(LONGEST, max(SHORTEST, deadline / 12))
    start_period = max(0.0, deadline - RETRIES * interval)
    return Rhythm(start_period=start_period, interval=interval, timeout=max(5.0, interval))


def golden_list(requests: Sequence[GoldenRequest]) -> str:
    """Golden requests as a JSON list in one line, the same text for the same requests."""
    documents = [
        {"request": dict(golden.request), "expect": list(golden.expect), "tolerance": golden.tolerance}
        for golden in requests
    ]
    return json.dumps(documents, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
