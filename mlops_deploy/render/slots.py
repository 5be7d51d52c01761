"""What a release runs with Compose: a project for each slot on its own network, and one for the router on both."""

from collections.abc import Mapping
from typing import Final, cast

from mlops_deploy.render.compose import LOOPBACK, bootstrap, bounded_log, hardened, image_of, in_units, server
from mlops_deploy.render.job import PIDS
from mlops_deploy.render.layout import Document, lay_out
from mlops_deploy.spec.deploy import DeploySpec, JsonValue
from mlops_deploy.spec.owner import LABEL, Owner
from mlops_deploy.spec.preset import Preset
from mlops_deploy.spec.rendered import CarrierRef, JobImage

SLOT_TEMPLATE: Final = "compose/slot.yml.j2"
ROUTER_TEMPLATE: Final = "compose/router.yml.j2"

ROUTER_PORT: Final = 8080
"""Where the router listens for clients inside its container."""

ROUTER_USER: Final = "65532:65532"
ROUTER_MEMORY: Final = 256 << 20
ROUTER_TMP: Final = 16 << 20
STATE: Final = "/state"
RUN: Final = "/run/router"

_SLOTS: Final = ("a", "b")

_CONNECTS: Final = f"import socket; socket.create_connection(('{LOOPBACK}', {ROUTER_PORT}), 2)"


def slot_job(spec: DeploySpec, carrier: CarrierRef, image: JobImage, preset: Preset) -> Document:
    """Bootstrap and server of one artefact, without anything that depends on the slot they run in.

    Raises `UnusableInputError` as a stand-alone file does.
    """
    return {"bootstrap": bootstrap(spec, carrier), "server": server(spec, carrier, image, preset)}


def slot_document(owner: Owner, slot: str, job: Mapping[str, JsonValue], *, content: str, key: str) -> Document:
    """The project of `slot` that runs `job`: the model `content` and the artefact `key` are on every label."""
    project, tasks = f"{owner.project}-{slot}", cast("dict[str, Document]", job)
    of_content = owner.labels(slot) | {f"{LABEL}content": content}
    labels: Document = dict(of_content | {f"{LABEL}key": key})
    joined: Document = {"default": {"aliases": [project]}}
    return {
        "name": project,
        "services": {
            "bootstrap": tasks["bootstrap"] | {"labels": labels},
            "server": tasks["server"] | {"networks": joined, "labels": labels},
        },
        "volumes": {"models": {"name": f"{project}-models", "labels": dict(of_content)}},
        "networks": {"default": {"name": project, "external": True}},
    }


def router_document(owner: Owner, port: int, image: JobImage, config: str) -> Document:
    """The project of the router: the one published port, a network for each slot, the volume of its state.

    Slots share no network, so an address that one gave up never becomes the other's.
    """
    labels: Document = dict(owner.labels())
    run = f"{RUN}:size={in_units(ROUTER_TMP)},uid=65532,gid=65532,mode=0700"
    locked = hardened(ROUTER_USER, ROUTER_TMP)
    return {
        "name": f"{owner.project}-router",
        "services": {
            "router": {
                **image_of(image),
                **locked,
                "tmpfs": [*cast("list[str]", locked["tmpfs"]), run],
                "environment": {"ROUTER_CONFIG": config},
                "ports": [f"{LOOPBACK}:{port}:{ROUTER_PORT}"],
                "networks": list(_SLOTS),
                "volumes": [{"type": "volume", "source": "state", "target": STATE}],
                "healthcheck": {
                    "test": ["CMD", "python3", "-I", "-S", "-c", _CONNECTS],
                    "start_period": "10s",
                    "start_interval": "1s",
                    "interval": "30s",
                    "timeout": "5s",
                    "retries": 3,
                },
                "deploy": {"resources": {"limits": {"memory": in_units(ROUTER_MEMORY), "pids": PIDS}}},
                "restart": "unless-stopped",
                "stop_grace_period": "35s",
                "logging": bounded_log(),
                "labels": labels,
            }
        },
        "volumes": {"state": {"name": f"{owner.project}-state", "labels": labels}},
        "networks": {slot: {"name": f"{owner.project}-{slot}", "labels": dict(owner.labels(slot))} for slot in _SLOTS},
    }


def slot_text(owner: Owner, slot: str, job: Mapping[str, JsonValue], *, content: str, key: str) -> str:
    """The Compose file of a slot."""
    return lay_out(SLOT_TEMPLATE, slot_document(owner, slot, job, content=content, key=key))


def router_text(owner: Owner, port: int, image: JobImage, config: str) -> str:
    """The Compose file of the router."""
    return lay_out(ROUTER_TEMPLATE, router_document(owner, port, image, config))
