"""BuildKit through the docker program: the SDK knows only the old builder, which has no secrets and no contexts."""

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.ports import Completed, LineSink, Runner
from mlops_deploy.spec.recipe import ImageFacts, Recipe
from mlops_deploy.spec.refs import Digest
from mlops_deploy.spec.secret import Secret

_NO_ENGINE: Final = ("Cannot connect to the Docker daemon", "error during connect")
_NO_BUILDX: Final = ("buildx component is missing", "unknown flag: --build-context", "unknown flag: --iidfile")
_NO_BASE: Final = "failed to resolve source metadata for"
_ABSENT: Final = ("not found", "pull access denied", "authorization failed", "insufficient_scope")
_NO_NETWORK: Final = (
    "Temporary failure in name resolution",
    "Name or service not known",
    "Connection refused",
    "Network is unreachable",
    "CERTIFICATE_VERIFY_FAILED",
    "timed out",
    "401 Error",
    "HTTP error 403",
    "ProxyError",
)
_CONFLICT: Final = (
    "ResolutionImpossible",
    "No matching distribution found",
    "Invalid requirement",
    "requires a different Python",
)
_TOLD: Final = re.compile(r"#\d+ \d+\.\d+ (.*)")
_CREDENTIALS: Final = re.compile(r"://[^/@\s]+@")
_SHOWN: Final = 15


class BuildKit:
    """Builds into the engine that the docker program talks to, with that engine's own builder."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def build(self, recipe: Recipe, on_line: LineSink) -> Digest:
        """The id of the built image. Raises an error of the family that says whose fault it is."""
        names = {id_: f"MLOPS_SECRET_{index}" for index, id_ in enumerate(recipe.secrets)}
        values = {names[id_]: secret.reveal() for id_, secret in recipe.secrets.items() if isinstance(secret, Secret)}
        redact = _redactor([line.rpartition(" = ")[2] for value in values.values() for line in value.splitlines()])
        with tempfile.TemporaryDirectory(prefix="mlops-deploy-") as folder:
            id_file = Path(folder) / "id"
            argv = build_argv(recipe, names, id_file)
            env = {**os.environ, **values, "DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}
            done = self._runner.run(argv, env=env, on_line=lambda line: on_line(redact(line)))
            if done.code != 0:
                raise build_error([redact(line) for line in done.err.splitlines()])
            return Digest.parse(id_file.read_text(encoding="ascii").strip())

    def facts(self, ref: str) -> ImageFacts | None:
        """What the engine knows of the image `ref`; None when it has none."""
        done = self._docker("image", "inspect", "--format", "{{json .}}", ref)
        if done.code != 0:
            if "no such image" in done.err.lower() or "not found" in done.err.lower():
                return None
            raise DeployError(f"the engine does not describe `{ref}`", detail=_last(done.err.splitlines()))
        found = json.loads(done.out)
        return ImageFacts(
            id=Digest.parse(found["Id"]), size=int(found["Size"]), labels=found["Config"].get("Labels") or {}
        )

    def run(self, image: str, argv: Sequence[str]) -> Completed:
        """Run a program of `image` without network and with nothing to write to, and wait for its end."""
        return self._docker("run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", image, *argv)  # noqa: S108 - in the container

    def remove(self, image: Digest) -> None:
        """Forget an image that has no name; what other images share stays."""
        self._docker("image", "rm", str(image))

    def _docker(self, *argv: str) -> Completed:
        done = self._runner.run(("docker", *argv))
        if done.code != 0 and any(text in done.err for text in _NO_ENGINE):
            raise _unreachable_engine(done.err.splitlines())
        return done


def build_argv(recipe: Recipe, variables: dict[str, str], id_file: Path) -> tuple[str, ...]:
    """The command line of a build; `variables` names the environment variable that holds each secret's value."""
    secrets = [
        _csv(f"id={id_}", f"env={variables[id_]}" if isinstance(secret, Secret) else f"src={secret}")
        for id_, secret in recipe.secrets.items()
    ]
    return (
        "docker", "build", "--provenance=false", "--iidfile", str(id_file),
        *_options("--build-arg", [f"{name}={value}" for name, value in recipe.args.items()]),
        *_options("--build-context", [f"{name}={path}" for name, path in recipe.contexts.items()]),
        *_options("--secret", secrets),
        *_options("--label", [f"{name}={value}" for name, value in recipe.labels.items()]),
        *(("--tag", str(recipe.tag)) if recipe.tag else ()),
        str(recipe.context),
    )  # fmt: skip


def build_error(lines: Sequence[str]) -> DeployError:
    """Whose fault a failed build is, told from what BuildKit and pip wrote."""
    text = "\n".join(lines)
    if any(sign in text for sign in _NO_ENGINE):
        return _unreachable_engine(lines)
    if any(sign in text for sign in _NO_BUILDX):
        hint = "install Docker's buildx plugin (package `docker-buildx` of Debian, `docker-buildx-plugin` of Docker)"
        return UnreachableError("this docker program cannot build with BuildKit", hint=hint, detail=_last(lines))
    reason = next((line.partition(_NO_BASE)[2].strip() for line in reversed(lines) if _NO_BASE in line), None)
    if reason is not None:
        name, _, why = reason.partition(": ")
        kind = UnusableInputError if any(sign in why for sign in _ABSENT) else UnreachableError
        return kind(f"base image `{name}` is not in the engine and cannot be pulled: {why}")
    return _step_error(text, lines)


def _step_error(text: str, lines: Sequence[str]) -> DeployError:
    told = [found[1] for line in lines if (found := _TOLD.fullmatch(line))]
    detail = _last(told or lines)
    if any(sign in text for sign in _NO_NETWORK):
        hint = "`--index-url` names another package index, `--ca-bundle` the certificates that it is checked with"
        return UnreachableError("the package index cannot be used from the build", hint=hint, detail=detail)
    if any(sign in text for sign in _CONFLICT):
        hint = "the constraints must fit the Python of the base image"
        return UnusableInputError("these packages cannot be installed together", hint=hint, detail=detail)
    return DeployError("the server image could not be built", detail=detail)


def _unreachable_engine(lines: Sequence[str]) -> UnreachableError:
    return UnreachableError("no Docker Engine answers", hint="start Docker, or set `DOCKER_HOST`", detail=_last(lines))


def _last(lines: Sequence[str]) -> tuple[str, ...]:
    """The last lines that say something."""
    return tuple(line for line in lines if line.strip())[-_SHOWN:]


def _redactor(secrets: Sequence[str]) -> Callable[[str], str]:
    hidden = [secret for secret in secrets if "://" in secret]

    def redact(line: str) -> str:
        for secret in hidden:
            line = line.replace(secret, "[redacted]")
        return _CREDENTIALS.sub("://[redacted]@", line)

    return redact


def _options(name: str, values: Sequence[str]) -> tuple[str, ...]:
    return tuple(part for value in values for part in (name, value))


def _csv(*fields: str) -> str:
    """BuildKit reads a secret's options as one CSV line: a path may hold commas and quotes."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
