"""Releases on a Nomad agent of this machine under load; the same figures as in an engine."""

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.release import base, timed, under_load, within
from benchmarks.table import NotMeasuredError, Row
from tests.integration.nomad_agent import agent
from tests.integration.nomad_service import NomadService
from tests.integration.releasing import build_tiny, services

SWITCHES = 20
"""Even, so that the version that was released last is live again."""


def rows() -> Iterator[Row]:
    if shutil.which("nomad") is None:
        raise NotMeasuredError("no `nomad` is on the PATH")
    build_tiny(base())
    with tempfile.TemporaryDirectory(prefix="nomad-") as folder, agent(Path(folder) / "n") as one:
        kind = partial(NomadService, agent=one)
        with services(Path(folder), kind) as make:
            service = make()
            service.build_all(1, 2)
            service.release(1)
            yield from under_load(service, "release on Nomad", SWITCHES)
            yield within("release on Nomad: `status`", timed(lambda: service.run("status")), 0.5)
            again = ("release", "--model", f"{service.name}:2")
            if "nothing to do" not in service.run(*again).stderr:
                raise NotMeasuredError("what is live is not what was released last")
            yield within("release on Nomad: nothing to do", timed(lambda: service.run(*again)), 1.0)
