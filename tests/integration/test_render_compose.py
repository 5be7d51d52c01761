"""The rendered file, read and run by the real Docker Compose."""

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest

from mlops_deploy.render.compose import render_compose
from mlops_deploy.spec.deploy import DeploySpec, ModelSpec, Ready, ReleaseSpec, Resources, ServerSpec
from mlops_deploy.spec.preset import Ports, Preset, Readiness
from mlops_deploy.spec.refs import ContentId, Digest
from mlops_deploy.spec.rendered import CarrierRef, JobImage

pytestmark = pytest.mark.docker

NASTY = {
    "SHELL": "${x} ${x:-y} $x $$ $$$ $",
    "HCL": '%{ if true } ${var.a} "; }',
    "JINJA": "{{ env }} {% raw %} {# no #}",
    "BACKQUOTES": "`id` 'a' \"b\" \\ \\n",
    "LINES": "one\ntwo\r\nthree\ttabbed\n\n",
    "COMMENT": "a # b",
    "MAP": "a: b",
    "ANCHORS": "&a *a !!python/object:os.system <<: *b",
    "TAG": "!!binary aGk=",
    "FLOW": "[1, {2: 3}], ",
    "DOCUMENT": "---\n...\n%YAML 1.1",
    "BLANKS": "  leading and trailing  ",
    "EMPTY": "",
    "WORDS": "no",
    "NUMBER": "0o17",
    "DATE": "2001-01-01",
    "SIXTY": "12:30:45",
    "LONG": "x$" * 32_768,
    "EMOJI": "\U0001f600 \u00e4\u6f22",
    "SEPARATORS": "a\u2028b\u2029c\u0085d\ufeffe\u00a0f",
    "CONTROL": "\x01\x07\x1b[31m\x7f",
    "NONCHARACTERS": "\ufffe\uffff\U0001fffe",
}

CONTENT = ContentId("1" * 64)


def test_compose_reads_the_very_values(tmp_path):
    found = understood(service(env=NASTY), tmp_path)["services"]["server"]["environment"]
    # What `config` prints is a Compose file again, so its dollars are doubled as ours are.
    assert {name: found[name].replace("$$", "$") for name in NASTY} == NASTY


def test_compose_reads_limits_and_times_as_meant(tmp_path):
    server = understood(service(), tmp_path)["services"]["server"]
    assert server["deploy"]["resources"]["limits"] == {"cpus": 0.5, "memory": "100000001", "pids": 1024}
    assert server["stop_grace_period"] == "2.5s"
    assert server["healthcheck"]["start_period"] == "15s"
    assert server["ports"] == [
        {"mode": "ingress", "host_ip": "127.0.0.1", "target": 8080, "published": "18123", "protocol": "tcp"}
    ]


def service(**changes) -> DeploySpec:
    spec = DeploySpec(
        root=Path("/nowhere"),
        service="rendertest",
        environment="it",
        model=ModelSpec(path=Path("/nowhere/model"), name="plane"),
        preset="kserve-sklearn",
        server=ServerSpec(),
        target=None,
        port=18123,
        env={},
        resources=Resources(cpu=0.5, memory=100_000_001),
        user=None,
        ready=Ready(deadline=20.0),
        release=ReleaseSpec(drain=2.5),
    )
    return dataclasses.replace(spec, **changes)


def carrier(content: ContentId = CONTENT) -> CarrierRef:
    return CarrierRef(name="plane", digest=Digest("2" * 64), content_id=content)


TINY = JobImage(ref="mlops-tiny-v2:latest", local=True)
PRESET = Preset(
    name="kserve-sklearn",
    doc="",
    command=("python", "-m", "mlops_server"),
    ports=Ports(http=8080),
    ready=Readiness(path="/v2/models/{name}/ready", command=("python", "-m", "mlops_server.ready")),
)


def understood(spec, folder):
    file = folder / "compose.yml"
    file.write_text(render_compose(spec, carrier(), TINY, PRESET).text)
    run = subprocess.run(
        ["docker", "compose", "-f", file, "config", "--format", "json"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)
