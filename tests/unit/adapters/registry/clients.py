"""The client as the product makes it, with waits that tests have time for, and a blob to send."""

import hashlib
import random
from dataclasses import dataclass

from mlops_deploy.adapters.process import LocalRunner
from mlops_deploy.adapters.registry.access import HttpAccess
from mlops_deploy.adapters.registry.channel import Channel
from mlops_deploy.adapters.registry.credentials import Credentials
from mlops_deploy.adapters.registry.pace import Pace
from mlops_deploy.adapters.registry.repository import HttpRepository
from mlops_deploy.adapters.registry.trust import Trust
from mlops_deploy.oci.types import LAYER, Descriptor
from mlops_deploy.spec.refs import Digest

QUICK = Pace(
    connect=10, silence=10, commit=10, token=10, first=0.001, longest=0.01, retry_after=0.05, total=60, farewell=5
)
PATH = "team/digits"
ENVIRON = {"HOME": "/nonexistent"}


def repository(host, *, pace=QUICK, modes=None, path=PATH, environ=ENVIRON):
    """A repository at `host`, asked over plain HTTP, by nobody in particular if `environ` has no credentials."""
    credentials = Credentials(host, environ, LocalRunner())
    access = HttpAccess(host, credentials, Trust(host, environ), environ, base=f"http://{host}", pace=pace)
    return HttpRepository(Channel(host, access, pace=pace, modes=modes), f"{host}/{path}", path)


@dataclass
class Layer:
    """Bytes to send, and how often they were read anew."""

    data: bytes
    reread: int = 0

    @classmethod
    def of(cls, size):
        return cls(random.Random(size).randbytes(size))

    @property
    def digest(self):
        return Digest(hashlib.sha256(self.data).hexdigest())

    @property
    def descriptor(self):
        return Descriptor(media_type=LAYER, digest=self.digest, size=len(self.data))

    def again(self, piece=100_000):
        self.reread += 1
        for at in range(0, len(self.data), piece):
            yield self.data[at : at + piece]

    def push(self, repository, block=2**18):
        upload = repository.upload(len(self.data), self.again)
        try:
            view = memoryview(self.data)
            for at in range(0, len(view), block):
                upload.write(view[at : at + block])
            upload.commit(self.digest)
        except BaseException:
            upload.abort()
            raise
        return upload


def half_done(fake):
    """The sessions that nobody closed."""
    return [session for session in fake.content.sessions.values() if not session.closed]


def stored(fake, layer, path=PATH):
    """Whether the registry has exactly these bytes, and nothing half done beside."""
    return fake.content.has(path, str(layer.digest)) and not half_done(fake)
