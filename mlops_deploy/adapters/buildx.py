"""BuildKit through the docker program: the SDK knows only the old builder, which has no secrets and no contexts."""

import csv
import io
import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mlops_deploy.adapters.process import OverdueError
from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.ports import Completed, LineSink, Runner
from mlops_deploy.spec.recipe import ImageFacts, Recipe
from mlops_deploy.spec.refs import Digest
from mlops_deploy.spec.secret import Secret

BUILD_DEADLINE: Final = 3600.0
"""Seconds that one build may take, the download of the base and of the packages included."""

_SOON: Final = 10.0
"""Seconds in which an engine that is there answers."""

_PATIENCE: Final = 120.0
"""Seconds for what only looks something up or removes it."""

_RUN_DEADLINE: Final = 300.0
"""Seconds for a program of an image, its container's start included."""

_NO_ENGINE: Final = (
    "Cannot connect to the Docker daemon",
    "error during connect",
    "Failed to initialize",
    "unable to resolve docker endpoint",
    "permission denied while trying to connect",
)
_NO_CONTEXT: Final = re.compile(r'context "(.+?)": context not found')
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
_FAILED: Final = "did not complete successfully:"
_LONG: Final = 200
_SHOWN: Final = 15
_AGAIN: Final = "see what takes so long; steps that are done are kept, so that the next build goes on from there"


class BuildKit:
    """Builds into the engine that the docker program talks to, with that engine's own builder.

    Every wait has an end: an engine that does not answer is an `UnreachableError` within ten seconds, a build that
    does not end one after `BUILD_DEADLINE`.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._answered = False

    def build(self, recipe: Recipe, on_line: LineSink) -> Digest:
        """The id of the built image. Raises an error of the family that says whose fault it is."""
        self._require_answer()
        names = {id_: f"MLOPS_SECRET_{index}" for index, id_ in enumerate(recipe.secrets)}
        values = {names[id_]: secret.reveal() for id_, secret in recipe.secrets.items() if isinstance(secret, Secret)}
        redact = _redactor([line.rpartition(" = ")[2] for value in values.values() for line in value.splitlines()])
        with tempfile.TemporaryDirectory(prefix="mlops-deploy-") as folder:
            id_file = Path(folder) / "id"
            argv = build_argv(recipe, names, id_file)
            env = {**os.environ, **values, "DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}
            with _hinting(_AGAIN):
                done = self._runner.run(
                    argv, env=env, timeout=BUILD_DEADLINE, on_line=lambda line: on_line(redact(line))
                )
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
        name = f"mlops-deploy-{secrets.token_hex(6)}"
        options = ("--rm", "--name", name, "--network", "none", "--read-only", "--tmpfs", "/tmp")  # noqa: S108 - in the container
        try:
            return self._docker("run", *options, image, *argv, timeout=_RUN_DEADLINE)
        except BaseException:
            # The end of the docker program does not end the container, whose first process may ignore its signals.
            with suppress(UnreachableError):
                self._docker("rm", "--force", name, timeout=_SOON)
            raise

    def remove(self, image: Digest) -> None:
        """Forget an image that has no name; what other images share stays."""
        self._docker("image", "rm", str(image), timeout=_SOON)

    def _docker(self, *argv: str, timeout: float = _PATIENCE) -> Completed:
        self._require_answer()
        with _hinting("see what the engine is doing, `docker ps` and `docker system df` say, then run this again"):
            done = self._runner.run(("docker", *argv), timeout=timeout)
        _require_engine(done)
        return done

    def _require_answer(self) -> None:
        """Ask once, and not for long: no other command of the docker program gives up on an engine that hangs."""
        if self._answered:
            return
        try:
            done = self._runner.run(("docker", "ps", "--quiet", "--last", "1"), timeout=_SOON)
        except OverdueError as late:
            raise UnreachableError(f"no Docker Engine answers within {_SOON:g} s", hint=_hint()) from late
        _require_engine(done)
        self._answered = True


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
    failed = next((line.partition(_FAILED)[2].strip() for line in reversed(lines) if _FAILED in line), "")
    detail = (*([f"the step ended with: {failed[:_LONG]}"] if failed else []), *_last(told or lines))
    if any(sign in text for sign in _NO_NETWORK):
        hint = "`--index-url` names another package index, `--ca-bundle` the certificates that it is checked with"
        return UnreachableError("the package index cannot be used from the build", hint=hint, detail=detail)
    if any(sign in text for sign in _CONFLICT):
        hint = "the constraints must fit the Python of the base image"
        return UnusableInputError("these packages cannot be installed together", hint=hint, detail=detail)
    hint = "mend what the step says, in the base, the constraints or the hook; build again to go on from there"
    return DeployError("the server image could not be built", hint=hint, detail=detail)


def _require_engine(done: Completed) -> None:
    if done.code != 0 and any(text in done.err for text in _NO_ENGINE):
        raise _unreachable_engine(done.err.splitlines())


def _unreachable_engine(lines: Sequence[str]) -> UnreachableError:
    said = next((line.strip() for line in lines if any(sign in line for sign in _NO_ENGINE)), "")
    if absent := _NO_CONTEXT.search(said):
        return UnreachableError(f"there is no docker context `{absent[1]}`", hint="`docker context ls` lists them")
    return UnreachableError("no Docker Engine answers", hint=_hint(), detail=(said,) if said else ())


def _hint() -> str:
    chosen = [name for name in ("DOCKER_HOST", "DOCKER_CONTEXT") if os.environ.get(name)]
    return f"start Docker, or correct `{chosen[0]}`" if chosen else "start Docker, or set `DOCKER_HOST`"


@contextmanager
def _hinting(hint: str) -> Iterator[None]:
    """Say what to do when the time is over."""
    try:
        yield
    except OverdueError as late:
        raise UnreachableError(late.message, hint=hint, detail=late.detail) from late


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
