"""One repository of a registry."""

import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Final

from urllib3.response import BaseHTTPResponse

from mlops_deploy.adapters.registry.answers import NETWORK, Reply, bounded, not_believed, require_plain
from mlops_deploy.adapters.registry.channel import Channel, Scope
from mlops_deploy.adapters.registry.download import Download
from mlops_deploy.adapters.registry.modes import WHOLE
from mlops_deploy.adapters.registry.pace import Patience
from mlops_deploy.adapters.registry.place import Place, require_digest
from mlops_deploy.adapters.registry.session import Session
from mlops_deploy.adapters.registry.upload import HttpUpload
from mlops_deploy.errors import DeployError, UnusableInputError
from mlops_deploy.oci.documents import LARGEST_DOCUMENT
from mlops_deploy.oci.types import DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST, Blob, Descriptor
from mlops_deploy.spec.refs import Digest

_ACCEPT = {"Accept": f"{INDEX}, {MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}"}
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9][\w.+-]{0,126}/[A-Za-z0-9][\w.+-]{0,126}", re.ASCII)
_DOCUMENT_SECONDS: Final = 120.0
_OK, _CREATED, _ACCEPTED, _NOT_FOUND, _NOT_ALLOWED = 200, 201, 202, 404, 405
_FOUND: Final = frozenset({_OK, _NOT_FOUND})
_STORED: Final = frozenset({_CREATED, 400, _NOT_FOUND})


class HttpRepository:
    """See `ports.Repository`; `path` is its name as the registry knows it."""

    def __init__(self, channel: Channel, name: str, path: str) -> None:
        self._channel = channel
        self._name = name
        self._path = path
        self._base = f"/v2/{path}"
        self._reading: Scope = (f"repository:{path}:pull",)
        self._writing: Scope = (f"repository:{path}:pull,push",)

    @property
    def name(self) -> str:
        """See `ports.Repository`."""
        return self._name

    @property
    def held_back(self) -> int:
        """See `ports.Repository`."""
        return self._channel.held_back

    def resolve(self, reference: str) -> Descriptor | None:
        """See `ports.Repository`."""
        step = f"`{reference}` of `{self._path}`"
        expect = _FOUND | {_NOT_ALLOWED}
        answer = self._manifest("HEAD", reference, step, expect)
        Reply.of(answer)
        if answer.status == _NOT_FOUND:
            return None
        told, size = answer.headers.get("Docker-Content-Digest"), answer.headers.get("Content-Length")
        if answer.status == _OK and told and size and size.isascii() and size.isdigit():
            return self._described(reference, answer, self._digest(told, step), int(size[:18]))
        return self._read_through(reference, step)

    def document(self, digest: Digest) -> bytes:
        """See `ports.Repository`."""
        step = f"`{digest}` of `{self._path}`"
        found = self._fetch(str(digest), step)
        if found is None:
            raise FileNotFoundError(str(digest))
        if sha256(found[1]).hexdigest() != digest.hex:
            raise not_believed(self._channel.host, f"sent other bytes than {step}")
        return found[1]

    def has(self, blob: Descriptor) -> bool:
        """See `ports.Repository`."""
        return self._place(blob.digest, self._reading).has(blob.digest, blob.size)

    def read(self, digest: Digest, *, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        """See `ports.Repository`."""
        return Download(
            channel=self._channel,
            url=f"{self._base}/blobs/{digest}",
            scope=self._reading,
            step=f"the blob `{digest.short}` of `{self._path}`",
            start=start,
            size=size,
        ).pieces()

    def mount(self, blob: Descriptor, source: str) -> bool:
        """See `ports.Repository`."""
        path = source.removeprefix(f"{self._channel.host}/")
        scope = (*self._writing, f"repository:{path}:pull")
        url = f"{self._base}/blobs/uploads/?mount={blob.digest}&from={path}"
        step = f"the blob `{blob.digest.short}` of `{path}`"
        try:
            answer = self._channel.request(
                "POST", url, step=step, scope=scope, expect={_CREATED, _ACCEPTED}, body=b"", patience=self._few_tries()
            )
            Reply.of(answer)
            if answer.status == _CREATED:
                return answer.headers.get("Docker-Content-Digest") == str(blob.digest) or self.has(blob)
            if location := answer.headers.get("Location"):
                place = self._place(blob.digest, self._writing)
                Session(place, self._channel.next(location, url), 0, WHOLE).cancel(self._few_tries())
        except DeployError:
            return False
        return False

    def upload(self, size: int, again: Callable[[], Iterable[bytes]]) -> HttpUpload:
        """See `ports.Repository`."""
        return HttpUpload(self._place(None, self._writing), size, again)

    def put_blob(self, blob: Blob) -> None:
        """See `ports.Repository`."""
        if not self.has(blob.descriptor):
            place = self._place(blob.descriptor.digest, self._writing)
            upload = HttpUpload(place, len(blob.data), lambda: [blob.data], mode=WHOLE)
            upload.write(memoryview(blob.data))
            upload.commit(blob.descriptor.digest)

    def put_document(self, reference: str, blob: Blob) -> None:
        """See `ports.Repository`."""
        step = f"`{reference}` of `{self._path}`"
        answer = self._channel.request(
            "PUT",
            f"{self._base}/manifests/{reference}",
            step=step,
            scope=self._writing,
            expect=_STORED,
            headers={"Content-Type": blob.descriptor.media_type},
            body=blob.data,
            silence=self._channel.pace.commit,
        )
        reply = Reply.of(answer)
        if reply.status != _CREATED:
            raise self._not_stored(step, reply)
        require_digest(reply.headers.get("Docker-Content-Digest"), blob.descriptor.digest, self._channel.host, step)

    def _not_stored(self, step: str, reply: Reply) -> DeployError:
        refused = self._channel.refusal(step, reply, self._writing)
        if "MANIFEST_BLOB_UNKNOWN" not in reply.codes:
            return refused
        return UnusableInputError(refused.message, hint="a part of it is not there any more; push once more")

    def _manifest(self, method: str, reference: str, step: str, expect: frozenset[int]) -> BaseHTTPResponse:
        url = f"{self._base}/manifests/{reference}"
        return self._channel.request(
            method, url, step=step, scope=self._reading, expect=expect, headers=_ACCEPT, silence=None
        )

    def _read_through(self, reference: str, step: str) -> Descriptor | None:
        """As `resolve`, from the bytes: for a registry that does not tell by its headers."""
        if (found := self._fetch(reference, step)) is None:
            return None
        answer, data = found
        digest = Digest(sha256(data).hexdigest())
        require_digest(answer.headers.get("Docker-Content-Digest"), digest, self._channel.host, step)
        return self._described(reference, answer, digest, len(data))

    def _fetch(self, reference: str, step: str) -> tuple[BaseHTTPResponse, bytes] | None:
        patience = Patience(self._channel.pace)
        while True:
            answer = self._manifest("GET", reference, step, _FOUND)
            if answer.status == _NOT_FOUND:
                Reply.of(answer)
                return None
            require_plain(answer, self._channel.host, step)
            try:
                data = bounded(answer, LARGEST_DOCUMENT, _DOCUMENT_SECONDS, answer.shutdown)
            except NETWORK as error:
                failure = self._channel.unreachable(step, error)
                if not patience.again():
                    raise failure from error
                continue
            finally:
                answer.close()
            if len(data) > LARGEST_DOCUMENT:
                raise not_believed(self._channel.host, f"sends more than 4 MiB as {step}")
            return answer, data

    def _described(self, reference: str, answer: BaseHTTPResponse, digest: Digest, size: int) -> Descriptor:
        kind = (answer.headers.get("Content-Type") or "").partition(";")[0].strip()
        host, step = self._channel.host, f"`{reference}` of `{self._path}`"
        if not _MEDIA_TYPE.fullmatch(kind):
            raise not_believed(host, f"does not say of what kind {step} is")
        if reference.startswith("sha256:") and reference != str(digest):
            raise not_believed(host, f"names something else as {step}")
        return Descriptor(media_type=kind, digest=digest, size=size)

    def _digest(self, told: str, step: str) -> Digest:
        try:
            return Digest.parse(told.strip())
        except UnusableInputError as error:
            what = f"names {step} by something that is no sha256 digest"
            raise not_believed(self._channel.host, what) from error

    def _place(self, digest: Digest | None, scope: Scope) -> Place:
        step = f"the blob `{digest.short}` of `{self._path}`" if digest else f"a layer of `{self._path}`"
        return Place(channel=self._channel, base=self._base, scope=scope, step=step)

    def _few_tries(self) -> Patience:
        return Patience(self._channel.pace, tries=2)
