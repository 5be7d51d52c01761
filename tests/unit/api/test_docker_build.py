"""A model that Docker builds into a carrier is read twice; it must be the same model."""

from types import SimpleNamespace

import pytest

from mlops_deploy.api.conduit import BrokenOffError
from mlops_deploy.api.docker_build import build_with_docker
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.refs import Digest
from mlops_deploy.store.cache import DigestCache
from tests.fakes.carriers import Silent, a_build, fake_shell, write_model

FILES = {"model.bin": b"weights", "labels/a.txt": b"0"}


class Docker:
    """Engine and builder: takes a context to its end, `meanwhile` happens when it comes."""

    def __init__(self, meanwhile=lambda: None):
        self._meanwhile = meanwhile
        self.context = b""
        self.built = self.broken = False

    def ping(self):
        return True

    def image_id(self, _):
        return Digest("1" * 64) if self.built else None

    def run(self, argv, *, stdin, timeout):
        self._meanwhile()
        try:
            for block in stdin:
                self.context += block
        except BrokenOffError:
            self.broken = True
            raise
        self.built = True
        return SimpleNamespace(code=0, out="", err="")


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model", FILES)


def built(model, shell, docker):
    return build_with_docker(a_build(model, shell), docker, docker, DigestCache(None), Silent())


def test_it_is_read_for_its_digest_and_for_the_builder(model, tmp_path):
    docker = Docker()
    done = built(model, fake_shell(tmp_path), docker)
    assert (done.bytes_read, done.bytes_sent) == (2 * sum(map(len, FILES.values())), len(docker.context))
    assert all(data in docker.context for data in FILES.values())


@pytest.mark.parametrize(
    ("name", "told"),
    [("labels/new.txt", "the model folder `labels`"), ("model.bin", "the model file `model.bin`")],
)
def test_what_changes_between_or_during_the_two_reads_is_not_built(model, tmp_path, name, told):
    docker = Docker(lambda: (model / name).write_bytes(b"WEIGHTS"))
    with pytest.raises(UnusableInputError, match=f"^{told} changed while it was read$"):
        built(model, fake_shell(tmp_path), docker)
    assert docker.broken
    assert not docker.built
