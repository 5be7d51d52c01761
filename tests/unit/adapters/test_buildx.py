import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_deploy.adapters import buildx
from mlops_deploy.adapters.buildx import BuildKit, build_argv, build_error
from mlops_deploy.adapters.process import Finished, LocalRunner
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.spec.recipe import Recipe
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.spec.secret import Secret

URL = "https://user:s3cr3t@packages.example.com/simple"
PLAIN_URL = "https://packages.example.com/s3cr3t-key/simple"
UNRESOLVED = "ERROR: failed to solve: x: failed to resolve source metadata for docker.io/library/nosuch:1"
ID = "sha256:" + "ab" * 32
RECIPE = Recipe(
    context=Path("/recipe"),
    args={"BASE": "python:3.11"},
    contexts={"hook": Path("/work/hook")},
    secrets={"pip.conf": Secret(f"[global]\nindex-url = {URL}\n"), "ca.crt": Path('/certs/a,"b".pem')},
    labels={"io.mlops-deploy.preset": "kserve-sklearn"},
    tag=ImageRef(name="server", tag="1"),
)


class Runner:
    """Stands for the docker program: remembers what it was asked, and answers what the test says."""

    def __init__(self, code=0, err=()):
        self.asked = []
        self._code, self._err = code, err

    def run(self, argv, *, env=None, on_line=None, **_):
        if argv[1] == "ps":
            return Finished(code=0, out="", err="")
        self.asked.append((tuple(argv), env))
        for line in self._err:
            on_line(line)
        if "--iidfile" in argv:
            Path(argv[argv.index("--iidfile") + 1]).write_text(ID)
        return Finished(code=self._code, out="", err="\n".join(self._err))


def test_the_command_line_of_a_build():
    assert build_argv(RECIPE, {"pip.conf": "SECRET_0", "ca.crt": "SECRET_1"}, Path("/tmp/id")) == (  # noqa: S108 - a name
        *("docker", "build", "--provenance=false", "--iidfile", "/tmp/id"),  # noqa: S108 - a name
        *("--build-arg", "BASE=python:3.11"),
        *("--build-context", "hook=/work/hook"),
        *("--secret", "id=pip.conf,env=SECRET_0", "--secret", 'id=ca.crt,"src=/certs/a,""b"".pem"'),
        *("--label", "io.mlops-deploy.preset=kserve-sklearn"),
        *("--tag", "server:1"),
        "/recipe",
    )


def test_a_secret_is_in_the_environment_and_nowhere_else():
    runner = Runner()
    assert str(BuildKit(runner).build(RECIPE, lambda _: None)) == ID
    ((argv, env),) = runner.asked
    assert "s3cr3t" not in " ".join(argv)
    assert [name for name, value in env.items() if "s3cr3t" in value] == ["MLOPS_SECRET_0"]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"#5 1.2 Looking in {URL}", "#5 1.2 Looking in [redacted]"),
        ("#5 1.2 also https://token@elsewhere.example.com/x", "#5 1.2 also https://[redacted]@elsewhere.example.com/x"),
        (f"#5 1.2 Looking in {PLAIN_URL}", "#5 1.2 Looking in [redacted]"),
    ],
    ids=["the address", "credentials in another", "an address that holds its secret elsewhere"],
)
def test_a_secret_is_neither_told_nor_in_an_error(line, shown):
    told = []
    recipe = replace(RECIPE, secrets={"pip.conf": Secret(f"index-url = {URL}\nextra-index-url = {PLAIN_URL}\n")})
    with pytest.raises(DeployError) as caught:
        BuildKit(Runner(code=1, err=[line, "ERROR: failed to solve"])).build(recipe, told.append)
    assert told[0] == shown
    assert caught.value.detail == (shown.removeprefix("#5 1.2 "),)


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        (
            "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            UnreachableError,
            "no Docker Engine answers",
        ),
        ("Failed to initialize: protocol not available", UnreachableError, "no Docker Engine answers"),
        (
            'Failed to initialize: unable to resolve docker endpoint: context "nope": context not found: open /x',
            UnreachableError,
            "there is no docker context `nope`",
        ),
        (
            "ERROR: BuildKit is enabled but the buildx component is missing or broken.",
            UnreachableError,
            "this docker program cannot build with BuildKit",
        ),
        (
            f'{UNRESOLVED}: failed to do request: Head "https://registry-1.docker.io/v2/": connection refused',
            UnreachableError,
            "base image `docker.io/library/nosuch:1` is not in the engine and cannot be pulled: failed to do request",
        ),
        (
            f"{UNRESOLVED}: pull access denied, repository does not exist or may require authorization",
            UnusableInputError,
            "base image `docker.io/library/nosuch:1` is not in the engine and cannot be pulled: pull access denied",
        ),
        (
            "#9 4.1 WARNING: Retrying after connection broken: [Errno 111] Connection refused",
            UnreachableError,
            "the package index cannot be used from the build",
        ),
        (
            "#9 4.1 ERROR: ResolutionImpossible: for help visit https://pip.pypa.io",
            UnusableInputError,
            "these packages cannot be installed together",
        ),
        ("#9 4.1 no space left on device", DeployError, "the server image could not be built"),
    ],
)
def test_whose_fault_a_failed_build_is(line, kind, message):
    error = build_error(["#1 [internal] load build definition", line, ""])
    assert type(error) is kind
    assert str(error).startswith(message)


def test_a_failed_step_shows_what_the_step_said():
    lines = ["#9 [packages 4/4] RUN pip", "#9 0.5 ERROR: no such option", "------", "ERROR: failed to solve: process"]
    assert build_error(lines).detail == ("ERROR: no such option",)


def test_how_the_step_ended_comes_before_its_last_lines():
    ended = 'ERROR: failed to solve: process "/bin/sh -c set -e" did not complete successfully: exit code: 1'
    error = build_error(["#9 [packages 4/4] RUN pip", "#9 0.5 no space left on device", ended])
    assert error.detail == ("the step ended with: exit code: 1", "no space left on device")
    assert error.hint


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """A docker program that is a shell script."""

    def write(script):
        program = tmp_path / "docker"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return write


class Noting(LocalRunner):
    """Takes down what the docker program is asked: it may be ended before it could say so itself."""

    def __init__(self):
        self.asked = []

    def run(self, argv, **how):
        self.asked.append(tuple(argv[1:]))
        return super().run(argv, **how)


def test_an_engine_that_accepts_and_never_answers_is_given_up_soon(docker, monkeypatch):
    docker("sleep 60 & wait")
    runner = Noting()
    monkeypatch.setattr(buildx, "_SOON", 0.3)
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/silent.sock")
    for call in (lambda it: it.facts("x:1"), lambda it: it.build(RECIPE, print), lambda it: it.run("x:1", ("true",))):
        started = time.monotonic()
        with pytest.raises(UnreachableError, match=r"no Docker Engine answers within 0.3 s") as caught:
            call(BuildKit(runner))
        assert time.monotonic() - started < 20
        assert caught.value.hint == "start Docker, or correct `DOCKER_HOST`"
    assert {asked[0] for asked in runner.asked} == {"ps"}


def test_an_engine_is_asked_for_an_answer_once(docker):
    docker("echo 'no such image' >&2; [ \"$1\" = ps ]")
    kit = BuildKit(runner := Noting())
    assert [kit.facts("x:1"), kit.facts("x:2")] == [None, None]
    assert [asked[0] for asked in runner.asked] == ["ps", "image", "image"]


def test_a_build_that_does_not_end_is_given_up_at_its_deadline(docker, monkeypatch):
    docker('[ "$1" = ps ] || { sleep 60 & wait; }')
    monkeypatch.setattr(buildx, "BUILD_DEADLINE", 0.3)
    with pytest.raises(UnreachableError, match=r"`docker` did not end within 0.3 s") as caught:
        BuildKit(LocalRunner()).build(RECIPE, print)
    assert "steps that are done are kept" in caught.value.hint


def test_a_container_that_does_not_end_is_removed(docker, monkeypatch):
    docker('[ "$1" != run ] || { sleep 60 & wait; }')
    runner = Noting()
    monkeypatch.setattr(buildx, "_RUN_DEADLINE", 0.3)
    with pytest.raises(UnreachableError):
        BuildKit(runner).run("x:1", ("true",))
    _, run, removed = runner.asked
    assert removed == ("rm", "--force", run[run.index("--name") + 1])


def test_a_docker_program_that_is_not_there_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreachableError, match="`docker` cannot be run") as caught:
        BuildKit(LocalRunner()).facts("x:1")
    assert "`command -v docker` must find it" in caught.value.hint
