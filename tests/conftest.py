"""What every test may use: engines that are there or counted as absent, and goldens that can be refreshed."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine alone, and what one run tries, every other does.
# Other examples are tried with `--hypothesis-profile=default`.
settings.register_profile("any machine", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

REQUIRED = {name for name in os.environ.get("MLOPS_DEPLOY_REQUIRE", "").split(",") if name}
LEFT_OUT = {name for name in os.environ.get("MLOPS_DEPLOY_WITHOUT", "").split(",") if name} - REQUIRED
ABSENT = pytest.StashKey[dict[str, int]]()


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _haproxy_is_there() -> bool:
    return shutil.which("haproxy") is not None


def _nomad_is_there() -> bool:
    return shutil.which("nomad") is not None


def _registry_is_there() -> bool:
    return shutil.which("docker-registry") is not None


ENGINES: dict[str, Callable[[], bool]] = {
    "docker": _docker_answers,
    "haproxy": _haproxy_is_there,
    "nomad": _nomad_is_there,
    "registry": _registry_is_there,
}
ABSENCES = {
    "docker": "no docker engine answers (`scripts/engine.sh` starts one)",
    "haproxy": "no haproxy on this machine (`apt install haproxy`)",
    "nomad": "no `nomad` on the PATH",
    "registry": "no docker-registry on this machine (`apt install docker-registry`)",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing with them")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, and count, what needs an engine that does not answer; fail instead where it is required."""
    absent = config.stash.setdefault(ABSENT, {})
    for name, answers in ENGINES.items():
        needing = [item for item in items if item.get_closest_marker(name)]
        left_out = name in LEFT_OUT
        if not needing or (not left_out and answers()):
            continue
        if name in REQUIRED:
            pytest.exit(f"MLOPS_DEPLOY_REQUIRE names `{name}`, but {ABSENCES[name]}", returncode=3)
        why = f"MLOPS_DEPLOY_WITHOUT leaves `{name}` out" if left_out else ABSENCES[name]
        absent[why] = len(needing)
        for item in needing:
            item.add_marker(pytest.mark.skip(reason=why))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for why, count in config.stash.get(ABSENT, {}).items():
        terminalreporter.write_line(f"{count} tests skipped: {why}")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare text with `golden/NAME` beside the test, or write it with `--update-golden`."""

    def compare(name: str, text: str) -> None:
        path = Path(request.path).parent / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing: run pytest --update-golden and review the file"
        assert text == path.read_text(encoding="utf-8")

    return compare
