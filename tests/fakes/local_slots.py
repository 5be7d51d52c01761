"""Artefacts of small local programs for the target `process`, and a look at what still runs of a folder."""

import hashlib
import json
import os
import sys
import time
import urllib.request
from pathlib import Path

from mlops_deploy.release.state import Artefact, Proof
from mlops_deploy.spec.refs import ContentId, Digest

SERVER = Path(__file__).parent / "tiny_v2" / "server.py"
NAME = "digits"
COPY = (
    'mkdir -p "$MODEL_VOLUME/v/$MODEL_ID" && printf %s "$MODEL" > "$MODEL_VOLUME/v/$MODEL_ID/model.json"; echo copied'
)
PATIENCE = 60.0


def artefact(weight=1, *, bootstrap=COPY, server=None, **env):
    """The model `weight` · x on the tiny server, or on another program; `env` goes to the server."""
    model = json.dumps({"weights": [weight], "bias": 0})
    content = hashlib.sha256(model.encode()).hexdigest()
    return Artefact(
        model=NAME,
        content_id=ContentId(content),
        carrier=NAME,
        carrier_digest=Digest(content),
        server="tiny",
        server_id="tiny",
        job={
            "bootstrap": {
                "argv": ["/bin/sh", "-c", bootstrap],
                "env": {"PATH": os.defpath, "MODEL_VOLUME": "@folder@/models", "MODEL_ID": content, "MODEL": model},
            },
            "server": {
                "argv": server or [sys.executable, str(SERVER)],
                "env": {
                    "PATH": os.defpath,
                    "MODEL_NAME": NAME,
                    "MODEL_ID": content,
                    "MODEL_PATH": f"@folder@/models/v/{content}",
                    "PORT": "@port@",
                    **env,
                },
            },
        },
        proof=proof(content),
    )


def proof(content):
    model = f"/v2/models/{NAME}"
    return Proof(
        endpoint=f"{model}/ready",
        identity=f"{model}/versions/{content[:12]}/ready",
        infer=f"{model}/infer",
        version=content[:12],
        version_in="model_version",
    )


def until(target, slot, *states):
    """The view of the slot once it is in one of these states."""
    deadline = time.monotonic() + PATIENCE
    while (view := target.observe(slot)).state not in states:
        assert time.monotonic() < deadline, view
        time.sleep(0.01)
    return view


def holds(condition):
    """Wait until `condition` is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def version(target, slot):
    """What the slot's server says that it is, straight from its port; waits until it listens."""
    deadline = time.monotonic() + PATIENCE
    host, port = target.address(slot)
    while True:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/v2/models/{NAME}/ready", timeout=5) as answer:
                return json.load(answer)["model_version"]
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def processes_of(folder):
    """The processes that name `folder` in their command line, environment or working folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if str(folder).encode() in said or (process / "cwd").readlink().is_relative_to(folder):
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError):
            continue
    found.pop(os.getpid(), None)
    return found


def pid_of(identity):
    return int(identity.partition(".")[0])
