"""The Docker Engine through its SDK: what is there, load, tag, pull."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import docker
import requests.exceptions
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from mlops_deploy.errors import DeployError, UnreachableError, UnusableInputError
from mlops_deploy.oci.types import Platform
from mlops_deploy.spec.refs import Digest, ImageRef

_PATIENCE: Final = 600
"""Seconds that the engine may take between two signs of life; unpacking a large layer says nothing meanwhile."""

_SOON: Final = 10
"""Seconds in which an engine that is there says which version it is."""

_SSH: Final = "ssh://"

_HINT: Final = "start Docker, or set `DOCKER_HOST`"
_LOGIN: Final = "`docker login` gives the engine the right to read it, where it is there"

_CLOSED: Final = ("unauthorized", "denied", "no basic auth credentials")
_AWAY: Final = (
    "dial tcp",
    "lookup ",
    "connection re",
    "timeout",
    "deadline exceeded",
    "eof",
    "too many requests",
    "toomanyrequests",
    "server error",
    "bad gateway",
    "unavailable",
)
"""What an engine says, in small letters, of a registry that does not answer; its status says nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One engine, for the SDK and for the docker program alike: the SDK by itself knows nothing of contexts."""

    host: str | None
    context: docker.context.Context | None

    @classmethod
    def resolve(cls) -> Self:
        """What `DOCKER_HOST`, `DOCKER_CONTEXT` or the current context names; raise `UnreachableError` for nothing."""
        host = os.environ.get("DOCKER_HOST")
        try:
            found = cls(host=host, context=None if host else _context())
        except (DockerException, OSError, ValueError) as error:
            raise UnreachableError(f"no Docker Engine answers{_named()}: {_reason(error)}", hint=_HINT) from error
        _refuse_ssh(host or (found.context.Host if found.context else None))
        return found

    def client(self, patience: int) -> docker.DockerClient:
        """Connect, within ten seconds; afterwards the engine may be silent for `patience` seconds."""
        try:
            if self.context is None:
                client = docker.from_env(timeout=_SOON)
            else:
                tls = self.context.TLSConfig or False
                client = docker.DockerClient(base_url=self.context.Host, tls=tls, timeout=_SOON)
        except (DockerException, requests.exceptions.RequestException, OSError, ValueError) as error:
            raise UnreachableError(f"no Docker Engine answers{_named()}: {_reason(error)}", hint=_HINT) from error
        client.api.timeout = patience
        return client

    def variables(self) -> dict[str, str]:
        """The environment of a docker program that is to talk to this engine, free of what steers Compose."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
        kept.pop("DOCKER_CONTEXT", None)
        if self.host:
            return kept
        return kept | {"DOCKER_CONTEXT": self.context.name if self.context else "default"}


class DockerEngine:
    """The engine that `DOCKER_HOST`, `DOCKER_CONTEXT` or the current context names. Connects on first use."""

    @cached_property
    def _client(self) -> docker.DockerClient:
        return Endpoint.resolve().client(_PATIENCE)

    def ping(self) -> bool:
        """Whether an engine answers."""
        return self.trouble() is None

    def trouble(self) -> str | None:
        """Why no engine answers, None when one does; says only so much when nobody has named one."""
        try:
            with translated("asking for an answer"):
                self._client.ping()
        except DeployError as error:
            return error.message if _named() else "no Docker Engine answers"
        return None

    def platform(self) -> Platform:
        """What the engine says of its machine."""
        with translated("asking for its platform"):
            found = self._client.version()
        return Platform(str(found["Os"]), str(found["Arch"]))

    def image_id(self, ref: str) -> Digest | None:
        """The id of the image that `ref` names: its config's digest, or with the containerd store its manifest's."""
        with translated(f"looking for `{ref}`"):
            try:
                found = self._client.api.inspect_image(ref)  # type: ignore[no-untyped-call]  # the SDK lacks the annotation
            except ImageNotFound:
                return None
        return Digest.parse(str(found["Id"]))

    def load(self, archive: Iterable[bytes | memoryview]) -> None:
        """Load a docker archive while it is being made."""
        with translated("loading the image"):
            for event in self._client.api.load_image(archive):  # type: ignore[no-untyped-call]  # the SDK lacks the annotation
                if "error" in event:
                    raise DeployError(f"the engine did not take the image: {event['error'].strip()}")

    def tag(self, source: str, target: str) -> None:
        """Give the image a further name."""
        name, _, tag = target.rpartition(":")
        with translated(f"tagging `{target}`"):
            self._client.api.tag(source, name, tag)

    def pull(self, ref: str) -> None:
        """Pull `ref`, with the credentials that the docker program uses."""
        parsed = ImageRef.parse(ref)
        tag = str(parsed.digest or parsed.tag or "latest")
        with translated(f"pulling `{ref}`"):
            try:
                for event in self._client.api.pull(parsed.name, tag=tag, stream=True, decode=True):
                    if "error" in event:
                        raise _unpulled(ref, str(event["error"]))
            except NotFound as absent:
                raise UnusableInputError(
                    f"the registry has no `{ref}`, or does not show it: {absent.explanation}",
                    hint=_LOGIN,
                ) from absent
            except APIError as refused:
                raise _unpulled(ref, str(refused.explanation or refused)) from refused

    def labels(self, ref: str) -> dict[str, str] | None:
        """The labels of the image `ref`."""
        with translated(f"looking for `{ref}`"):
            try:
                found = self._client.api.inspect_image(ref)  # type: ignore[no-untyped-call]  # the SDK lacks the annotation
            except ImageNotFound:
                return None
        return dict(found["Config"].get("Labels") or {})

    def labelled(self, label: str) -> dict[str, dict[str, str]]:
        """The labels of all images with a name that have `label`."""
        with translated("listing its images"):
            found = self._client.api.images(filters={"label": label})
        return {name: dict(image.get("Labels") or {}) for image in found for name in image.get("RepoTags") or []}


def _unpulled(ref: str, said: str) -> DeployError:
    """What an engine says of an image that it could not pull, by whom it can be mended."""
    text = said.lower()
    if any(one in text for one in _CLOSED):
        return UnusableInputError(f"the registry does not show `{ref}`: {said}", hint=_LOGIN)
    if any(one in text for one in _AWAY):
        return UnreachableError(
            f"the registry of `{ref}` does not answer: {said}",
            hint="see that the engine reaches the registry, then run this again",
        )
    return DeployError(f"`{ref}` cannot be pulled: {said}", hint=f"see what `docker pull {ref}` says")


def _refuse_ssh(host: str | None) -> None:
    if host and host.startswith(_SSH):
        raise UnreachableError(
            f"an engine at `{host}` cannot be used as such; "
            f"`ssh -NL /tmp/engine.sock:/var/run/docker.sock {host}` forwards its socket",
            hint="set `DOCKER_HOST=unix:///tmp/engine.sock` then",
        )


def _context() -> docker.context.Context | None:
    name = os.environ.get("DOCKER_CONTEXT")
    context = ContextAPI.get_context(name) if name else ContextAPI.get_current_context()
    if name and context is None:
        raise UnreachableError(f"there is no docker context `{name}`", hint="`docker context ls` lists them")
    return context if context is not None and context.name != "default" else None


@contextmanager
def translated(deed: str) -> Iterator[None]:
    """Turn what the SDK and its HTTP library raise while `deed` is done into our errors."""
    try:
        yield
    except APIError as error:
        raise DeployError(f"the engine refused {deed}: {error.explanation or error}") from error
    except (DockerException, requests.exceptions.RequestException) as error:
        raise UnreachableError(f"the engine went away while {deed}: {_first_line(error)}", hint=_HINT) from error


def _named() -> str:
    """Which engine was asked for by name."""
    found = ((name, os.environ.get(name)) for name in ("DOCKER_HOST", "DOCKER_CONTEXT"))
    return next((f" at `{value}`, which `{name}` names" for name, value in found if value), "")


def _reason(error: BaseException) -> str:
    """What the system said, where it said something: the SDK wraps it three times, and quotes it as code."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, TimeoutError):
            return f"it was silent for {_SOON} s"
        if isinstance(found, OSError) and found.strerror:
            return found.strerror.lower()
        found = found.__cause__ or found.__context__
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
