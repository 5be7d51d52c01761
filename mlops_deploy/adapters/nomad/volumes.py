"""The host volumes that a service makes for its slots: one each, on one node. What is not ours is refused."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.render.job import BOOTSTRAP_USER
from mlops_deploy.spec.owner import LABEL, Owner

_PLUGIN: Final = "mkdir"
"""The way of making a volume that every client has."""

_NOT_FOUND: Final = 404
_CAPABILITY: Final = {"AccessMode": "single-node-multi-writer", "AttachmentMode": "file-system"}
_CONTENT: Final = f"{LABEL}content"

Document = Mapping[str, Any]


class Volumes:
    """Dynamic host volumes in the namespace of `client`.

    A volume has no meta and no labels. It has constraints, which name the nodes that it may be on, and keeps them: so
    a label is written as one that every node meets, a text that equals itself.
    """

    def __init__(self, owner: Owner, client: NomadClient) -> None:
        self._owner = owner
        self._client = client

    def content(self, name: str, slot: str) -> str | None:
        """The content id of the model that the volume `name` was made for; None when there is no such volume."""
        return next((labels.get(_CONTENT) for _, labels in self._found(name, slot)), None)

    def create(self, name: str, slot: str, content: str, job: Document, size: int) -> None:
        """Begin to make a volume of at least `size` bytes on a node that `job` may run on."""
        labels = self._owner.labels(slot) | {_CONTENT: content}
        user, group = BOOTSTRAP_USER.split(":")
        volume = {
            "Name": name,
            "Namespace": self._client.namespace,
            "PluginID": _PLUGIN,
            "NodePool": job.get("NodePool") or "",
            "Constraints": [*_labelled(labels), *_where(job)],
            "RequestedCapabilities": [_CAPABILITY],
            "RequestedCapacityMinBytes": size,
            "Parameters": {"mode": "0755", "uid": user, "gid": group},
        }
        if self._client.raw("PUT", "volume/host/create", body={"Volume": volume}).status == _NOT_FOUND:
            raise UnusableInputError(
                "this Nomad makes no host volumes, which came with 1.10",
                hint="set `nomad.volume.kind` to `alloc`, or to `host` with the name of one that its clients have",
            )

    def remove(self, name: str, slot: str) -> None:
        """Remove the volume `name` with all that is in it; raise `DeployError` when an allocation still uses it."""
        for volume_id, _ in self._found(name, slot):
            self._client.raw("DELETE", f"volume/host/{volume_id}/delete")

    def _found(self, name: str, slot: str) -> Iterator[tuple[str, Mapping[str, str]]]:
        """The ids and labels of the volumes of that name."""
        listed = self._client.raw("GET", "volumes", params={"type": "host"}).body
        for one in listed if isinstance(listed, list) else ():
            if (
                one["Name"] != name
                or (found := self._client.raw("GET", f"volume/host/{one['ID']}")).status == _NOT_FOUND
            ):
                continue
            labels = _labels(found.body)
            if not self._owner.owns(labels, slot):
                raise _not_ours(name, one["ID"])
            yield one["ID"], labels


def _labelled(labels: Mapping[str, str]) -> list[Document]:
    texts = [f"{name}={value}" for name, value in labels.items()]
    return [{"LTarget": text, "Operand": "=", "RTarget": text} for text in texts]


def _labels(volume: Document) -> dict[str, str]:
    texts = [one["LTarget"] for one in volume.get("Constraints") or () if one["LTarget"] == one["RTarget"]]
    return {name: value for name, _, value in (text.partition("=") for text in texts) if name.startswith(LABEL)}


def _where(job: Document) -> list[Document]:
    """What a job asks of its node, as a volume can be told it."""
    (group,) = job["TaskGroups"]
    drivers = sorted({task["Driver"] for task in group["Tasks"]})
    asked = [{"LTarget": f"${{attr.driver.{driver}}}", "Operand": "=", "RTarget": "1"} for driver in drivers]
    centers = [name for name in job.get("Datacenters") or () if name != "*"]
    if centers and "*" not in (job.get("Datacenters") or ()):
        globs = "|".join(re.escape(name).replace(r"\*", ".*") for name in centers)
        asked.append({"LTarget": "${node.datacenter}", "Operand": "regexp", "RTarget": f"^({globs})$"})
    return [*asked, *(job.get("Constraints") or ()), *(group.get("Constraints") or ())]


def _not_ours(name: str, volume_id: str) -> DeployError:
    return UnusableInputError(
        f"there is a host volume `{name}`, and it does not say that it is this service's",
        hint=f"see what it is with `nomad volume status -type=host {volume_id[:8]}`; choose another `service`",
    )
