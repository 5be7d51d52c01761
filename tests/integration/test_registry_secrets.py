"""Planted secrets: whatever a registry, a helper or a proxy does, no output and no file of ours shows one."""

import json
import os
import subprocess
import sys
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.carriers import write_model
from tests.fakes.recording import Response, recording
from tests.fakes.registry import FakeRegistry, cloud
from tests.fakes.registry.faults import Fault
from tests.fakes.registry.messages import Answer

PASSWORD = "c4nary-word"
IDENTITY = "c4nary-identity"
BASIC = b64encode(f"ann:{PASSWORD}".encode()).decode()
PLANTED = (PASSWORD, IDENTITY, BASIC, "c4nary")

PUSHING = [
    ("start", 403), ("start", 401), ("start", 307), ("put", 400), ("blob-head", 403), ("manifest-put", 403),
    ("token", 401),
]  # fmt: skip
READING = [("manifest-head", 403), ("manifest", 400), ("blob", 401), ("token", 400)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Echoes(Fault):
    """A refusal that repeats all that was sent, in its body, its headers, and in where it sends us."""

    status: int

    def instead(self, asked):
        sent = " ".join(asked.headers.values())
        errors = {"errors": [{"code": "DENIED", "message": "x" * pad + sent, "detail": sent} for pad in (0, 230)]}
        value = asked.headers.get("authorization", "").rpartition(" ")[2]
        return Answer.of_bytes(
            self.status,
            json.dumps(errors).encode(),
            Location=f"http://{value}@127.0.0.2/{value}?_state={value}",
            Docker_Upload_UUID=value,
            Retry_After="0",
        )


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path / "model", {"a.bin": os.urandom(5000)})
    return tmp_path


def logged_in(folder, host, **entry):
    config = {"auths": {host: entry or {"auth": BASIC}}}
    (folder / "home").mkdir(exist_ok=True)
    (folder / "home" / "config.json").write_text(json.dumps(config))


def run(folder, *arguments, **environ):
    """Everything that can be seen of a command: its output, and all files below the folder that it wrote."""
    home = {name: str(folder / "home") for name in ("HOME", "DOCKER_CONFIG")} | {
        "XDG_CACHE_HOME": str(folder / "cache")
    }
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-m", "mlops_deploy", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path.cwd()), "MLOPS_DEPLOY_TRACEBACK": "1"} | home | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    files = [one for one in folder.rglob("*") if one.is_file() and "home" not in one.parts]
    return done, done.stdout + done.stderr + "".join(one.read_bytes().decode(errors="replace") for one in files)


def assert_quiet(done, seen, *more):
    for secret in (*PLANTED, *more):
        assert secret not in seen
    assert "unexpected" not in done.stderr
    assert done.returncode in {2, 8, 12}, done.stderr


def tokens_of(registry):
    return {
        one.headers["authorization"].rpartition(" ")[2] for one in registry.asked if one.headers.get("authorization")
    } - {BASIC}


@pytest.mark.parametrize(("step", "status"), PUSHING)
def test_a_registry_that_repeats_what_a_push_sends(folder, step, status):
    with FakeRegistry(cloud(users={"ann": PASSWORD})).running() as registry:
        logged_in(folder, registry.host)
        registry.fault(step, Echoes(status=status), times=99)
        done, seen = run(folder, "build-model", "model", "--push", f"{registry.host}/team/digits:1")
        assert registry.steps(step)
        assert_quiet(done, seen, *tokens_of(registry))


@pytest.mark.parametrize(("step", "status"), READING)
def test_a_registry_that_repeats_what_a_look_sends(folder, step, status):
    with FakeRegistry(cloud(users={"ann": PASSWORD})).running() as registry:
        logged_in(folder, registry.host)
        ref = f"{registry.host}/team/digits:1"
        done, _ = run(folder, "build-model", "model", "--push", ref)
        assert done.returncode == 0, done.stderr
        registry.fault(step, Echoes(status=status), times=99)
        done, seen = run(folder, "verify", ref)
        assert registry.steps(step)
        assert_quiet(done, seen, *tokens_of(registry))


def test_an_identity_token_that_is_repeated(folder):
    with FakeRegistry(cloud(identity_tokens={IDENTITY: "ann"})).running() as registry:
        logged_in(folder, registry.host, identitytoken=IDENTITY)
        registry.fault("manifest-put", Echoes(status=403), times=99)
        done, seen = run(folder, "build-model", "model", "--push", f"{registry.host}/team/digits:1")
        assert registry.steps("manifest-put")
        assert_quiet(done, seen, *tokens_of(registry))


@pytest.mark.parametrize(
    "script",
    [
        f"echo {PASSWORD}; echo {PASSWORD} >&2",
        f"echo {PASSWORD}; exit 3",
        f'echo \'{{"Username": "ann", "Secret": ["{PASSWORD}"]}}\'',
        f'echo \'{{"Username": "ann", "Secret": "{PASSWORD}\\u0000\\r\\nX: y"}}\'',
    ],
)
def test_a_helper_that_prints_junk(folder, script):
    with FakeRegistry(cloud()).running() as registry:
        (folder / "home").mkdir()
        (folder / "home" / "config.json").write_text(json.dumps({"credHelpers": {registry.host: "junk"}}))
        program = folder / "home" / "docker-credential-junk"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        path = f"{program.parent}:{os.environ['PATH']}"
        done, seen = run(folder, "build-model", "model", "--push", f"{registry.host}/team/digits:1", PATH=path)
        assert_quiet(done, seen)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"auths": {{"HOST": {{"auth": "{PASSWORD}"}}}}}}',
        f'{{"auths": {{"HOST": {{"identitytoken": "{PASSWORD}"',
        f'{{"auths": {{"HOST": {{"identitytoken": "{PASSWORD}\\r\\nX: y"}}}}}}',
        f'{{"credHelpers": {{"HOST": "{PASSWORD}/x"}}}}',
    ],
)
def test_a_file_of_credentials_that_is_broken(folder, text):
    with FakeRegistry(cloud()).running() as registry:
        (folder / "home").mkdir()
        (folder / "home" / "config.json").write_text(text.replace("HOST", registry.host))
        done, seen = run(folder, "build-model", "model", "--push", f"{registry.host}/team/digits:1")
        assert_quiet(done, seen)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"token": "c4nary\\r\\nX: y"}',
        b'{"token": ["c4nary"]}',
        b"c4nary",
    ],
)
def test_a_token_server_that_answers_junk(folder, answer):
    def guarded(request):
        if request.path.startswith("/token"):
            return Response(body=answer)
        return Response(status=401, headers=(("WWW-Authenticate", 'Bearer realm="/token"'),))

    with recording(guarded) as registry:
        host = f"127.0.0.1:{registry.port}"
        logged_in(folder, host)
        done, seen = run(folder, "build-model", "model", "--push", f"{host}/team/digits:1")
        assert any(one.path.startswith("/token") for one in registry.asked)
        assert_quiet(done, seen)


@pytest.mark.parametrize(
    "proxy", ["http://ann:c4nary@127.0.0.1:1", "http://ann:c4nary@127.0.0.1:x", "socks5://ann:c4nary@x"]
)
def test_a_proxy_that_does_not_answer(folder, proxy):
    done, seen = run(folder, "verify", "r.test/team/digits:1", HTTPS_PROXY=proxy, NO_PROXY="")
    assert_quiet(done, seen)
