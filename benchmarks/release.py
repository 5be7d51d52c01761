"""Releases in an engine under load: requests that failed; how long a write, a switch and whole commands take."""

import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter, sleep

from benchmarks.table import NotMeasuredError, Row, seconds
from mlops_deploy.adapters.docker_engine import Endpoint
from mlops_deploy.adapters.keeper_exec import KeeperExec
from mlops_deploy.release import lease as leases
from mlops_deploy.release.codec import encode
from mlops_deploy.release.effects import Refused
from mlops_deploy.release.lease import Holder, Lease
from tests.integration.releasing import BASES, Service, build_tiny, services

SWITCHES = 30
WRITES = 300
TIMES = 11


def rows() -> Iterator[Row]:
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        raise NotMeasuredError("no engine answers")
    build_tiny(base())
    with tempfile.TemporaryDirectory() as folder, services(Path(folder)) as make:
        service = make()
        service.build_all(1, 2)
        service.release(1)
        yield from under_load(service)
        yield within("release: the keeper's write, over the exec stream", write_seconds(service), 0.01)
        sleep(1)
        yield within("release: `status`", timed(lambda: service.run("status")), 0.5)
        release = ("release", "--model", f"{service.name}:2")
        if "nothing to do" not in service.run(*release).stderr:
            raise NotMeasuredError("what is live is not what was released last")
        yield within("release: nothing to do", timed(lambda: service.run(*release)), 1.0)


def base() -> str:
    for name in BASES:
        if subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0:
            return name
    raise NotMeasuredError("no base image is in the engine: images/base/build.sh makes one")


def under_load(service: Service, what: str = "release", times: int = SWITCHES) -> Iterator[Row]:
    """Two versions change places, again and again, while requests come in."""
    with service.load(rate=250, new=80) as load:
        service.release(2)
        took = [timed(lambda: service.run("rollback"), 1) for _ in range(times)]
        sleep(1)
        count = load.end()
    switches = [entry["switch_ms"] / 1000 for entry in service.json("history", "-n", str(times))]
    sent, failed = count["sent"], count["failed"]
    name = f"{what}: failed requests, {times} switches at {count['rate']:.0f} requests/s, 80 new connections/s"
    yield Row(name, f"{failed}", f"of {sent:,}", failed / sent, "<= 0")
    yield within(f"{what}: switch under load, commit to confirmed", statistics.median(switches), 0.025)
    yield within(f"{what}: hot rollback under load, whole command", statistics.median(took), 1.0)


def write_seconds(service: Service) -> float:
    """The median time of a route committed: flushed to disk, told to the proxy, answered."""
    client = Endpoint.resolve().client(10)
    keeper = KeeperExec(client.api, service.container("router"))
    try:
        index, token = keeper.get(leases.KEY).index, 1_000_000
        held = Lease(token=token, ttl=leases.TTL, holder=Holder(name="benchmark", nonce="benchmark"), release=None)
        keeper.put(leases.KEY, encode(held), index, token)
        took = [commit_seconds(keeper, token) for _ in range(WRITES)]
        keeper.put(leases.KEY, encode(replace(held, holder=None)), index + 1, token)
    finally:
        keeper.close()
        client.close()
    return statistics.median(took)


def commit_seconds(keeper: KeeperExec, token: int) -> float:
    view = keeper.observed()
    started = perf_counter()
    answer = keeper.commit(view.route, view.generation, token)
    took = perf_counter() - started
    if isinstance(answer, Refused):
        raise NotMeasuredError(f"the keeper refuses: {answer.reason}")
    return took


def timed(work: Callable[[], object], times: int = TIMES) -> float:
    return statistics.median(seconds(work) for _ in range(times))


def within(name: str, took: float, goal: float) -> Row:
    return Row(name, shown(took), shown(goal), took / goal, "<= 1")


def shown(time: float) -> str:
    return f"{time * 1000:.1f} ms" if time < 0.1 else f"{time:.2f} s"
