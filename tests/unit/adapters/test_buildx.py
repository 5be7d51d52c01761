from pathlib import Path

import pytest

from mlops_deploy.adapters.buildx import BuildKit, build_argv, build_error
from mlops_deploy.adapters.process import Finished
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.spec.recipe import Recipe
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.spec.secret import Secret

URL = "https://user:s3cr3t@packages.example.com/simple"
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


def test_a_secret_is_neither_told_nor_in_an_error():
    told = []
    lines = [f"#5 1.2 Looking in {URL}", "#5 1.3 also https://token@elsewhere.example.com/x", "ERROR: failed to solve"]
    with pytest.raises(DeployError) as caught:
        BuildKit(Runner(code=1, err=lines)).build(RECIPE, told.append)
    everything = " ".join([*told, str(caught.value), *caught.value.detail])
    assert "s3cr3t" not in everything
    assert "token@" not in everything
    assert "elsewhere.example.com" in everything


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        (
            "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            UnreachableError,
            "no Docker Engine answers",
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
