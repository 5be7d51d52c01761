"""One Nomad job without slots, whose servers the cluster replaces behind a canary."""

from collections.abc import Mapping
from typing import Final, cast

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.layout import Document, Value
from mlops_deploy.render.nomad import named, volume_of
from mlops_deploy.render.nomad_fingerprint import signed
from mlops_deploy.spec.deploy import JsonValue
from mlops_deploy.spec.owner import LABEL, Owner

LIVE: Final = "live"
CANARY: Final = "canary"
"""The tags of servers in the catalogue: a canary's changes with its promotion."""


def rolling_document(owner: Owner, job: Mapping[str, JsonValue], *, count: int, content: str, key: str) -> Document:
    """The job of the whole service that runs `count` times what a slot would run once.

    Raises `UnusableInputError` for a volume of the job's own, which is on one node and cannot serve a second server.
    """
    labels = owner.labels() | {f"{LABEL}content": content, f"{LABEL}key": key}
    made = named(owner.project, cast("Document", job), labels)
    if (volume := volume_of(cast("Mapping[str, JsonValue]", made))) is not None and volume[1]:
        raise UnusableInputError(
            "`nomad.volume.kind` is `dynamic`, which is a volume on one node: a canary beside it may be on another",
            hint="`--native` works with `alloc` or `host`",
        )
    (group,) = cast("list[Document]", made["TaskGroups"])
    # Nothing is reverted by itself: what went wrong is told first, and the way back is walked by name.
    own: Document = {"MaxParallel": 1, "Canary": 1, "AutoPromote": False, "AutoRevert": False}
    update: Document = {**cast("Document", group["Update"]), **own}
    tasks: list[Value] = [_tagged(task) for task in cast("list[Document]", group["Tasks"])]
    return signed({**made, "TaskGroups": [{**group, "Count": count, "Update": update, "Tasks": tasks}]})


def _tagged(task: Document) -> Document:
    services = cast("list[Document]", task.get("Services", []))
    tagged: list[Value] = [{**one, "Tags": [LIVE], "CanaryTags": [CANARY]} for one in services]
    return {**task, **({"Services": tagged} if tagged else {})}
