"""The router as a Nomad job: one task on the host's own network, which follows what the cluster says; pure."""

import json
from hashlib import sha256
from typing import Final

from mlops_deploy.render.job import PIDS
from mlops_deploy.render.layout import Document
from mlops_deploy.render.nomad import constraint, placed
from mlops_deploy.render.nomad_text import nanoseconds
from mlops_deploy.render.router import LISTEN
from mlops_deploy.render.slots import ROUTER_MEMORY, ROUTER_TMP, ROUTER_USER
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.owner import LABEL, Owner
from mlops_deploy.spec.rendered import JobImage

GROUP: Final = "router"
TASK: Final = "router"
PORT: Final = "entry"
KEY: Final = f"{LABEL}key"
"""The label that tells one document from another."""

STATE: Final = "/alloc/data/state"
"""What the router knew last, for the time of one allocation: the cluster's variable is the truth."""

RUN: Final = "/run/entry"
"""A folder that the image does not have: one that it has would give the tmpfs its own mode, and root as its owner."""

_NODE: Final = "${attr.unique.network.ip-address}"
"""Where clients look for it: the address that a client gives the port on may be another one of its node, when an
allocation that is about to end still has the first."""

_MIB: Final = 1 << 20
_CPU: Final = 200
_DISK: Final = 64
_WRITABLE_BY_ALL: Final = 0o1777

_KILL: Final = 30
"""Seconds to end: more than a client grants by itself would be cut off."""

_GRACE: Final = 25
"""Seconds that requests in flight get of those."""

_HEALTHY: Final = 60


def router_id(owner: Owner) -> str:
    """The name of the job, and of its service."""
    return f"{owner.project}-router"


def router_variable(owner: Owner) -> str:
    """The path of the variable that the router follows: one that a job may read without being granted anything."""
    return f"nomad/jobs/{router_id(owner)}"


def router_document(owner: Owner, port: int, image: JobImage, nomad: NomadSpec) -> Document:
    """The job of the router on the static port `port`, as the API takes it."""
    job: Document = {
        "ID": router_id(owner),
        "Name": router_id(owner),
        "Type": "service",
        **placed(nomad),
        **({"Constraints": [constraint(one) for one in nomad.constraints]} if nomad.constraints else {}),
        "Update": _update(nomad),
        "TaskGroups": [_group(owner, port, image, nomad)],
    }
    key = sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()
    return {**job, "Meta": {**owner.labels(), KEY: key}}


def _update(nomad: NomadSpec) -> Document:
    healthy = nomad.pull_timeout + _HEALTHY
    return {
        "MaxParallel": 1,
        "HealthCheck": "checks",
        "MinHealthyTime": nanoseconds(1),
        "HealthyDeadline": nanoseconds(healthy),
        "ProgressDeadline": nanoseconds(healthy + _HEALTHY),
        "AutoRevert": False,
    }


def _group(owner: Owner, port: int, image: JobImage, nomad: NomadSpec) -> Document:
    return {
        "Name": GROUP,
        "Count": 1,
        "EphemeralDisk": {"SizeMB": _DISK},
        "Networks": [{"ReservedPorts": [{"Label": PORT, "Value": port}]}],
        # A fault that this node does not get over in five attempts may be the node's.
        "RestartPolicy": {"Attempts": 5, "Interval": nanoseconds(60), "Delay": nanoseconds(1), "Mode": "fail"},
        "ReschedulePolicy": {
            "Unlimited": True,
            "Delay": nanoseconds(5),
            "DelayFunction": "exponential",
            "MaxDelay": nanoseconds(60),
        },
        "Tasks": [_task(owner, port, image, nomad)],
    }


def _task(owner: Owner, port: int, image: JobImage, nomad: NomadSpec) -> Document:
    return {
        "Name": TASK,
        "Driver": "docker",
        "User": ROUTER_USER,
        "Config": _config(image, nomad),
        "Env": {
            "STATE": STATE,
            "RUN": RUN,
            LISTEN: f"{_NODE}:{port}",
            "ROUTER_GRACE": str(_GRACE),
            "ROUTER_VARIABLE": router_variable(owner),
            "ROUTER_SLOT_A": f"{owner.project}-a",
            "ROUTER_SLOT_B": f"{owner.project}-b",
        },
        "Identity": {"Env": True},
        "Resources": {"CPU": _CPU, "MemoryMB": ROUTER_MEMORY // _MIB},
        "LogConfig": {"MaxFiles": 2, "MaxFileSizeMB": 5},
        "KillSignal": "SIGTERM",
        "KillTimeout": nanoseconds(_KILL),
        "ShutdownDelay": nanoseconds(nomad.shutdown_delay),
        "Services": [
            {
                "Name": router_id(owner),
                "Provider": "nomad",
                "PortLabel": PORT,
                "Address": _NODE,
                "Checks": [
                    {
                        "Name": "listens",
                        "Type": "tcp",
                        "PortLabel": PORT,
                        "Interval": nanoseconds(5),
                        "Timeout": nanoseconds(2),
                    }
                ],
            }
        ],
    }


def _config(image: JobImage, nomad: NomadSpec) -> Document:
    return {
        "image": image.ref,
        "image_pull_timeout": f"{round(nomad.pull_timeout)}s",
        "network_mode": "host",
        "readonly_rootfs": True,
        "cap_drop": ["all"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": PIDS,
        "mount": [
            {
                "type": "tmpfs",
                "target": RUN,
                "tmpfs_options": [{"size": ROUTER_TMP, "mode": _WRITABLE_BY_ALL}],
            }
        ],
    }
