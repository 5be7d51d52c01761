"""What a registry holds: blobs in memory or in a folder, manifests, tags, and uploads that go on."""

import hashlib
import io
import json
import re
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from tests.fakes.registry.messages import RefusalError

INDEX = "application/vnd.oci.image.index.v1+json"
LARGEST_MANIFEST = 4 * 2**20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def digest_of(data: bytes) -> str:
    """The sha256 digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def checked(digest: str) -> str:
    """`digest`, if it is one."""
    if not _DIGEST.fullmatch(digest):
        raise RefusalError("DIGEST_INVALID", f"not a digest: {digest[:200]}")
    return digest


@dataclass(kw_only=True)
class Session:
    """A blob on its way."""

    id: str
    repository: str
    file: BinaryIO
    received: int = 0
    patches: list[int] = field(default_factory=list)
    """The sizes of its chunks."""
    states: int = 0
    """How many locations have been told; only the last one is good."""
    closed: bool = False
    busy: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest as it came."""

    data: bytes
    media_type: str


class Content:
    """Everything below one registry; `folder` keeps blobs out of memory."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self.blobs: dict[str, bytes | Path] = {}
        self.links: dict[str, set[str]] = defaultdict(set)
        """The digests of the blobs that each repository has."""
        self.manifests: dict[str, dict[str, Manifest]] = defaultdict(dict)
        self.tags: dict[str, dict[str, str]] = defaultdict(dict)
        self.sessions: dict[str, Session] = {}
        self.stored: Counter[str] = Counter()
        """How often each blob has been sent to its end."""
        self.lock = threading.RLock()

    # Blobs

    def has(self, repository: str, digest: str) -> bool:
        """Whether the repository has the blob."""
        return checked(digest) in self.links[repository]

    def size(self, digest: str) -> int:
        """Bytes of a blob."""
        held = self.blobs[digest]
        return len(held) if isinstance(held, bytes) else held.stat().st_size

    def open(self, repository: str, digest: str) -> BinaryIO:
        """A blob's bytes."""
        if not self.has(repository, digest):
            raise RefusalError("BLOB_UNKNOWN", f"{repository} has no blob {digest}")
        held = self.blobs[digest]
        return io.BytesIO(held) if isinstance(held, bytes) else held.open("rb")

    def read(self, digest: str) -> bytes:
        """A blob's bytes, all at once."""
        held = self.blobs[digest]
        return held if isinstance(held, bytes) else held.read_bytes()

    def plant_blob(self, repository: str, data: bytes, digest: str | None = None) -> str:
        """Put a blob there, also under a digest that is not its own."""
        digest = digest or digest_of(data)
        with self.lock:
            self.blobs[digest] = data
            self.links[repository].add(digest)
        return digest

    def lose(self, repository: str, digest: str) -> None:
        """Forget a blob or manifest, whoever names it: what a disk or a clean-up that goes too far does."""
        with self.lock:
            self.blobs.pop(digest, None)
            self.links[repository].discard(digest)
            self.manifests[repository].pop(digest, None)

    # Uploads

    def begin(self, repository: str) -> Session:
        """A new session."""
        name = str(uuid4())
        file: BinaryIO = io.BytesIO() if self.folder is None else (self.folder / name).open("w+b")
        with self.lock:
            self.sessions[name] = Session(id=name, repository=repository, file=file)
        return self.sessions[name]

    def session(self, repository: str, name: str) -> Session:
        """A session that goes on."""
        found = self.sessions.get(name)
        if found is None or found.repository != repository or found.closed:
            raise RefusalError("BLOB_UPLOAD_UNKNOWN", f"no upload {name}")
        return found

    def cancel(self, session: Session) -> None:
        """Forget a session and its bytes."""
        session.closed = True
        session.file.close()
        if self.folder is not None:
            with suppress(FileNotFoundError):
                (self.folder / session.id).unlink()

    def close(self) -> None:
        """End all sessions."""
        for session in tuple(self.sessions.values()):
            if not session.closed:
                self.cancel(session)

    def commit(self, session: Session, digest: str) -> None:
        """The end of a session, which the digest must name."""
        checked(digest)
        session.file.seek(0)
        found = hashlib.file_digest(session.file, digest.partition(":")[0]).hexdigest()
        if found != digest.partition(":")[2]:
            self.cancel(session)
            raise RefusalError("DIGEST_INVALID", f"the content has the digest {found}")
        with self.lock:
            session.closed = True
            if isinstance(session.file, io.BytesIO):
                self.blobs[digest] = session.file.getvalue()
            elif self.folder is not None:
                session.file.close()
                self.blobs[digest] = (self.folder / session.id).rename(self.folder / digest.replace(":", "-"))
            self.links[session.repository].add(digest)
            self.stored[digest] += 1

    # Manifests

    def manifest(self, repository: str, reference: str) -> tuple[str, Manifest]:
        """What a tag or a digest names, with its digest."""
        digest = checked(reference) if ":" in reference else self.tags[repository].get(reference, "")
        found = self.manifests[repository].get(digest)
        if found is None:
            raise RefusalError("MANIFEST_UNKNOWN", f"{repository} has no manifest {reference}")
        return digest, found

    def plant_manifest(self, repository: str, data: bytes, media_type: str, *references: str) -> str:
        """Put a manifest there unchecked, under its digest and all `references`, tags or digests that are not its."""
        digest = digest_of(data)
        with self.lock:
            self.manifests[repository][digest] = Manifest(data=data, media_type=media_type)
            for reference in references:
                if ":" in reference:
                    self.manifests[repository][reference] = Manifest(data=data, media_type=media_type)
                else:
                    self.tags[repository][reference] = digest
        return digest

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> tuple[str, str | None]:
        """Take a manifest; its digest, and the subject that it refers to."""
        if len(data) > LARGEST_MANIFEST:
            raise RefusalError("MANIFEST_INVALID", "too large", status=413)
        digest = digest_of(data)
        if ":" in reference and checked(reference) != digest:
            raise RefusalError("DIGEST_INVALID", f"the content has the digest {digest}")
        document = _parsed(data, media_type)
        with self.lock:
            self._require_parts(repository, document)
            self.plant_manifest(repository, data, media_type, *(() if ":" in reference else (reference,)))
        subject = document.get("subject") or {}
        return digest, subject.get("digest")

    def referrers(self, repository: str, digest: str, artifact_type: str | None) -> bytes:
        """The index of the manifests that refer to `digest`."""
        found = []
        for own, manifest in self.manifests[repository].items():
            document = json.loads(manifest.data)
            kind = document.get("artifactType") or (document.get("config") or {}).get("mediaType", "")
            if (document.get("subject") or {}).get("digest") == digest and artifact_type in {None, kind}:
                entry = {"mediaType": manifest.media_type, "digest": own, "size": len(manifest.data)}
                found.append(entry | {"artifactType": kind, "annotations": document.get("annotations", {})})
        return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": found}).encode()

    def _require_parts(self, repository: str, document: dict[str, Any]) -> None:
        for part in (document.get("config"), *document.get("layers", ())):
            if part is not None and part["digest"] not in self.links[repository]:
                raise RefusalError("MANIFEST_BLOB_UNKNOWN", f"{repository} has no blob {part['digest']}")
        for part in document.get("manifests", ()):
            if part["digest"] not in self.manifests[repository]:
                raise RefusalError("MANIFEST_BLOB_UNKNOWN", f"{repository} has no manifest {part['digest']}")

    def dangling(self) -> list[str]:
        """Tags from which not everything can be reached; empty in a registry that has done its duty."""
        found = []
        for repository, tags in self.tags.items():
            for tag, digest in tags.items():
                try:
                    self._walk(repository, digest)
                except KeyError:
                    found.append(f"{repository}:{tag}")
        return found

    def _walk(self, repository: str, digest: str) -> None:
        document = json.loads(self.manifests[repository][digest].data)
        for part in document.get("manifests", ()):
            self._walk(repository, part["digest"])
        for part in (document.get("config"), *document.get("layers", ())):
            if part is not None and digest_of(self.read(part["digest"])) != part["digest"]:
                raise KeyError(part["digest"])


def _parsed(data: bytes, media_type: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RefusalError("MANIFEST_INVALID", "not JSON") from error
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise RefusalError("MANIFEST_INVALID", "no manifest")
    if document.get("mediaType", media_type) != media_type:
        raise RefusalError("MANIFEST_INVALID", "its media type is not that of the request")
    if not {"manifests", "layers", "config"} & document.keys():
        raise RefusalError("MANIFEST_INVALID", "it names nothing")
    return document
