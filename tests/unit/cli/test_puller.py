"""What a bootstrap that pulls ends with: the numbers of deploy.sh, which targets explain."""

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlops_deploy.adapters.faults import bootstrap_ended
from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.adapters.registry.registries import HttpRegistries
from mlops_deploy.api.build_model import build_model
from mlops_deploy.api.pushing import RegistryDestination
from mlops_deploy.cli.puller import exit_code, main
from mlops_deploy.errors import ContentMismatchError, UnreachableError, UnusableInputError
from mlops_deploy.render.pulling import pull_environment
from mlops_deploy.spec.refs import ContentId, ImageRef
from mlops_deploy.spec.registry import RegistrySpec
from mlops_deploy.spec.rendered import CarrierRef
from mlops_deploy.store.cache import DigestCache
from mlops_deploy.store.volume import InTheWayError, VolumeError
from tests.fakes.carriers import AMD64, Silent, a_build, fake_shell, write_model
from tests.fakes.forwarding import forwarding
from tests.fakes.registry import FakeRegistry, Stalls, distribution

REF = f"registry.example.com/digits@sha256:{'1' * 64}"


@pytest.mark.parametrize(
    ("failed", "code"),
    [
        (ContentMismatchError("x"), 65),
        (VolumeError("x", code=73), 73),
        (VolumeError("x", code=74), 74),
        (OSError(5, "Input/output error"), 74),
        (UnreachableError("x"), 75),
        (InTheWayError("x"), 77),
        (UnusableInputError("x"), 78),
    ],
)
def test_every_failure_has_its_number_and_every_number_its_words(failed, code):
    assert exit_code(failed) == code
    assert "did not come to its end" not in bootstrap_ended(code).message


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "MODEL_REF is not set"),
        ({"MODEL_REF": "digits:1"}, "MODEL_REF is `digits:1`"),
        ({"MODEL_REF": REF}, "MODEL_VOLUME is not set"),
        ({"MODEL_REF": REF, "MODEL_VOLUME": "model"}, "must be an absolute path, not `model`"),
        ({"MODEL_REF": REF, "MODEL_VOLUME": "/model", "MODEL_ID": "no"}, "`no` is not a content id"),
    ],
)
def test_wrong_settings_are_told(monkeypatch, capsys, environ, says):
    for name in ("MODEL_REF", "MODEL_VOLUME", "MODEL_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main() == 78
    said = capsys.readouterr().err
    assert says in said
    assert "`registry` of mlops.yml" in said.splitlines()[-1]


def until(true, seconds):
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds
        time.sleep(0.01)


@dataclass
class Bootstrap:
    """A carrier in a registry, and the program that brings its model to a volume, as a job runs it."""

    registry: FakeRegistry
    volume: Path
    ref: ImageRef
    content: str

    def start(self, **other):
        told = {"MODEL_REF": str(self.ref), "MODEL_ID": self.content, "MODEL_VOLUME": str(self.volume)} | other
        argv = [sys.executable, "-I", "-m", "mlops_deploy.cli.puller"]
        return subprocess.Popen(argv, env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, **other):
        process = self.start(**other)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


@pytest.fixture
def bootstrap(tmp_path):
    with FakeRegistry(distribution()).running() as registry:
        name = ImageRef(name=f"{registry.host}/models/digits", tag="1")
        model = write_model(tmp_path / "model", {"weights": bytes(3_000_000), "more": b"more"})
        repository = HttpRegistries({}, LocalRunner()).repository(name)
        build = a_build(model, fake_shell(tmp_path, AMD64))
        built = build_model(build, [RegistryDestination(repository, ["1"])], DigestCache(None), Silent()).carrier
        ref = ImageRef(name=name.name, digest=built.digest)
        yield Bootstrap(registry, tmp_path / "volume", ref, built.content_id.hex)


def test_a_model_is_brought_once_and_found_without_a_registry(bootstrap):
    code, out, _ = bootstrap.run()
    assert (code, out.split(":")[0]) == (0, f"copied digits {bootstrap.content[:12]}")
    model = bootstrap.volume / "v" / bootstrap.content
    assert (model / "weights").read_bytes() == bytes(3_000_000)
    asked = len(bootstrap.registry.asked)
    code, out, _ = bootstrap.run()
    assert (code, out.split(":")[0]) == (0, f"found digits {bootstrap.content[:12]}")
    assert len(bootstrap.registry.asked) == asked


def test_a_registry_behind_a_proxy_that_the_job_names(bootstrap):
    name = bootstrap.ref.name.replace(bootstrap.registry.host, "r.test:5000")
    carrier = CarrierRef(name=name, digest=bootstrap.ref.digest, content_id=ContentId(bootstrap.content), local=False)
    with forwarding("r.test:5000", bootstrap.registry.host) as proxy:
        here = RegistrySpec(insecure=True, proxy=proxy.url, no_proxy="other.test")
        told = pull_environment(here, carrier, volume=str(bootstrap.volume), credentials=None, ca=None)
        code, out, err = bootstrap.run(**told)
        assert (code, out.split(":")[0]) == (0, f"copied digits {bootstrap.content[:12]}"), err
        assert any("/blobs/" in one.path for one in proxy.asked)
        assert (bootstrap.volume / "v" / bootstrap.content / "weights").read_bytes() == bytes(3_000_000)
        before = len(proxy.asked)
        direct = pull_environment(
            replace(here, no_proxy="r.test"), carrier, volume=f"{bootstrap.volume}-2", credentials=None, ca=None
        )
        # However long the name servers of this machine keep silent.
        assert bootstrap.run(**direct, RES_OPTIONS="timeout:1 attempts:1")[0] == 75, "nobody here knows that name"
        assert len(proxy.asked) == before


def test_a_damaged_model_is_found_unless_the_job_has_it_verified(bootstrap):
    bootstrap.run()
    weights = bootstrap.volume / "v" / bootstrap.content / "weights"
    weights.chmod(0o644)
    weights.write_bytes(b"x" + bytes(2_999_999))
    assert bootstrap.run()[1].startswith("found")
    assert bootstrap.run(MODEL_VERIFY="sometimes")[0] == 78
    code, out, _ = bootstrap.run(MODEL_VERIFY="always")
    assert (code, out.split(":")[0]) == (0, f"copied digits {bootstrap.content[:12]}")
    assert weights.read_bytes() == bytes(3_000_000)


def test_another_model_than_the_job_asks_for_is_refused(bootstrap):
    code, _, err = bootstrap.run(MODEL_ID="2" * 64)
    assert code == 65
    assert "carries model" in err
    assert not (bootstrap.volume / "v" / bootstrap.content).exists()


def test_one_that_is_told_to_end_does_so_at_once_and_the_next_one_ends_the_work(bootstrap):
    stalls = Stalls(seconds=30, after=1_000_000)
    bootstrap.registry.fault("blob", stalls, times=9, where=lambda asked: not asked.headers.get("range"))
    process = bootstrap.start()
    until(lambda: [*bootstrap.volume.glob("v/.*/model/weights")], 20)
    process.terminate()
    process.communicate(timeout=25)
    assert process.returncode == 143
    bootstrap.registry.heal()
    assert bootstrap.run()[0] == 0
