"""One repository of a registry."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256

from urllib3.response import BaseHTTPResponse

from mlops_deploy.adapters.registry.channel import Channel
from mlops_deploy.adapters.registry.upload import HttpUpload
from mlops_deploy.errors import ContentMismatchError, UnreachableError, UnusableInputError
from mlops_deploy.oci.documents import LARGEST_DOCUMENT
from mlops_deploy.oci.types import INDEX, MANIFEST, Blob, Descriptor
from mlops_deploy.spec.refs import Digest

_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_ACCEPT = {"Accept": f"{INDEX}, {MANIFEST}, {_DOCKER_LIST}, {_DOCKER_MANIFEST}"}
_PIECE = 2**20
_OK, _CREATED, _ACCEPTED, _PARTIAL, _NOT_FOUND = 200, 201, 202, 206, 404


class HttpRepository:
    """See `ports.Repository`; `path` is its name as the registry knows it."""

    def __init__(self, channel: Channel, name: str, path: str) -> None:
        self._channel = channel
        self._name = name
        self._base = f"/v2/{path}"

    @property
    def name(self) -> str:
        """See `ports.Repository`."""
        return self._name

    @property
    def held_back(self) -> int:
        """See `ports.Repository`."""
        return 0

    def resolve(self, reference: str) -> Descriptor | None:
        """See `ports.Repository`."""
        answer = self._channel.request("GET", f"{self._base}/manifests/{reference}", headers=_ACCEPT)
        data = answer.read(LARGEST_DOCUMENT + 1)
        if answer.status == _NOT_FOUND:
            return None
        self._require(answer, _OK)
        return Descriptor(
            media_type=answer.headers.get("Content-Type", ""), digest=Digest(sha256(data).hexdigest()), size=len(data)
        )

    def document(self, digest: Digest) -> bytes:
        """See `ports.Repository`."""
        answer = self._channel.request("GET", f"{self._base}/manifests/{digest}", headers=_ACCEPT)
        if answer.status == _NOT_FOUND:
            raise FileNotFoundError(str(digest))
        self._require(answer, _OK)
        data = answer.read(LARGEST_DOCUMENT + 1)
        if sha256(data).hexdigest() != digest.hex:
            raise ContentMismatchError(f"the registry `{self._channel.host}` answered other bytes than `{digest}`")
        return data

    def has(self, blob: Descriptor) -> bool:
        """See `ports.Repository`."""
        answer = self._channel.request("HEAD", f"{self._base}/blobs/{blob.digest}")
        answer.drain_conn()
        return answer.status == _OK

    def read(self, digest: Digest, *, start: int = 0, size: int | None = None) -> Iterator[bytes]:  # noqa: ARG002 - skeleton
        """See `ports.Repository`."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self._channel.request("GET", f"{self._base}/blobs/{digest}", headers=headers)
        if answer.status == _NOT_FOUND:
            raise FileNotFoundError(str(digest))
        self._require(answer, _PARTIAL if start else _OK)
        yield from answer.stream(_PIECE)

    def mount(self, blob: Descriptor, source: str) -> bool:
        """See `ports.Repository`."""
        path = source.removeprefix(f"{self._channel.host}/")
        answer = self._channel.request("POST", f"{self._base}/blobs/uploads/?mount={blob.digest}&from={path}")
        answer.drain_conn()
        return answer.status == _CREATED

    def upload(self, size: int, again: Callable[[], Iterable[bytes]]) -> HttpUpload:  # noqa: ARG002 - skeleton
        """See `ports.Repository`."""
        answer = self._channel.request("POST", f"{self._base}/blobs/uploads/", headers={"Content-Length": "0"})
        answer.drain_conn()
        self._require(answer, _ACCEPTED)
        return HttpUpload(self._channel, answer.headers["Location"], size)

    def put_blob(self, blob: Blob) -> None:
        """See `ports.Repository`."""
        if not self.has(blob.descriptor):
            upload = self.upload(len(blob.data), lambda: [blob.data])
            upload.write(memoryview(blob.data))
            upload.commit(blob.descriptor.digest)

    def put_document(self, reference: str, blob: Blob) -> None:
        """See `ports.Repository`."""
        answer = self._channel.request(
            "PUT",
            f"{self._base}/manifests/{reference}",
            headers={"Content-Type": blob.descriptor.media_type},
            body=blob.data,
        )
        answer.drain_conn()
        self._require(answer, _CREATED)

    def _require(self, answer: BaseHTTPResponse, status: int) -> None:
        if answer.status != status:
            kind = UnreachableError if answer.status >= 500 else UnusableInputError  # noqa: PLR2004
            raise kind(f"the registry `{self._channel.host}` answered {answer.status}")
