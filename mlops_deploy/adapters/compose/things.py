"""The containers, volumes and networks of one service in an engine. What is not ours is refused, never touched."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import docker
from docker.errors import APIError, NotFound

from mlops_deploy.adapters.docker_engine import translated
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.owner import Owner

_OF_PROJECT: Final = "com.docker.compose.project"
_CONFLICT: Final = 409
_WAYS: Final = {
    "container": "`docker rm --force {0}` removes it, `docker rename {0} …` keeps it",
    "volume": "`docker volume rm {0}` removes it",
    "network": "`docker network rm {0}` removes it",
}
_GOING: Final = ("already in progress", "marked for removal")


class Things:
    """What an engine has under the names of one service."""

    def __init__(self, client: docker.DockerClient, owner: Owner) -> None:
        self._api: Any = client.api  # most of it lacks annotations
        self._owner = owner

    def container(self, name: str, slot: str | None) -> Mapping[str, Any] | None:
        """How the engine describes the container `name`; None when there is none."""
        with translated(f"looking at `{name}`"):
            try:
                found: Mapping[str, Any] = self._api.inspect_container(name)
            except NotFound:
                return None
        if found["Name"] != f"/{name}":  # the engine takes the first digits of an id for a name
            return None
        self._require_ours("container", name, found["Config"]["Labels"], slot)
        return found

    def containers(self, project: str, slot: str | None) -> tuple[str, ...]:
        """The ids of all containers of a Compose project."""
        with translated(f"looking for `{project}`"):
            found = self._api.containers(all=True, filters={"label": f"{_OF_PROJECT}={project}"})
        for one in found:
            self._require_ours("container", one["Names"][0].lstrip("/"), one["Labels"], slot)
        return tuple(one["Id"] for one in found)

    def volume(self, name: str, slot: str | None) -> Mapping[str, str] | None:
        """The labels of the volume `name`; None when there is none."""
        with translated(f"looking at the volume `{name}`"):
            try:
                labels: Mapping[str, str] = self._api.inspect_volume(name)["Labels"] or {}
            except NotFound:
                return None
        self._require_ours("volume", name, labels, slot)
        return labels

    def network(self, slot: str) -> bool:
        """Whether the network of a slot is there."""
        name = f"{self._owner.project}-{slot}"
        with translated(f"looking for the network `{name}`"):
            found = [one for one in self._api.networks(names=[name]) if one["Name"] == name]
        for one in found:
            self._require_ours("network", name, one["Labels"], slot)
        return bool(found)

    def clear(self, project: str, slot: str | None, grace: int) -> None:
        """Stop all containers of a project, each within `grace` seconds, and remove them."""
        for one in self.containers(project, slot):
            with translated(f"removing `{project}`"), _gone_is_fine():
                self._api.stop(one, timeout=grace)
                self._api.remove_container(one, v=True, force=True)

    def remove_volume(self, name: str, slot: str | None) -> None:
        """Remove a volume, if it is there."""
        if self.volume(name, slot) is not None:
            with translated(f"removing the volume `{name}`"), _gone_is_fine():
                self._api.remove_volume(name)

    def remove_network(self, slot: str) -> None:
        """Remove the network of a slot, if it is there."""
        if self.network(slot):
            name = f"{self._owner.project}-{slot}"
            with translated(f"removing the network `{name}`"), _gone_is_fine():
                self._api.remove_network(name)

    def start(self, container: str) -> None:
        """Start a container that was stopped."""
        with translated("starting a container"):
            self._api.start(container)

    def ends(self, container: str, since: float, until: float) -> tuple[int | None, ...]:
        """The exit codes with which a container ended between two times; None each time its memory was too small."""
        wanted = {"container": container, "event": ["die", "oom"]}
        with translated("reading events"):
            found = list(self._api.events(since=f"{since:.6f}", until=f"{until:.6f}", filters=wanted, decode=True))
        return tuple(int(one["Actor"]["Attributes"]["exitCode"]) if one["Action"] == "die" else None for one in found)

    def lines(self, container: str, tail: int, *, follow: bool) -> Iterator[str]:
        """The last lines that a container wrote, and with `follow` every new one until it ends."""
        with translated("reading a log"):
            rest = b""
            for piece in self._api.logs(container, stream=True, follow=follow, tail=tail):
                *whole, rest = (rest + piece).split(b"\n")
                yield from (line.decode(errors="replace") for line in whole)
            if rest:
                yield rest.decode(errors="replace")

    def last_lines(self, container: str, count: int, until: float | None = None) -> tuple[str, ...]:
        """The last lines that a container wrote, before `until` if that is given; none of one that is gone."""
        written = b""
        with translated("reading a log"), _gone_is_fine():
            written = self._api.logs(container, tail=count, until=until)
        return tuple(written.decode(errors="replace").splitlines())

    def _require_ours(self, kind: str, name: str, labels: Mapping[str, str] | None, slot: str | None) -> None:
        if not self._owner.owns(labels or {}, slot):
            way = _WAYS[kind].format(name)
            raise UnusableInputError(
                f"there is a {kind} `{name}`, and its labels do not say that it is this service's",
                hint=f"see what it is with `docker inspect {name}`; {way}, or choose another `service`",
            )


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """What somebody else has removed, or is removing, need not be removed again."""
    try:
        yield
    except NotFound:
        pass
    except APIError as error:
        if error.status_code != _CONFLICT or not any(sign in str(error.explanation) for sign in _GOING):
            raise
