"""What each request does to the content."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, Protocol
from urllib.parse import quote

from tests.fakes.registry.content import LARGEST_MANIFEST, Content, Session
from tests.fakes.registry.messages import Answer, Asked, BrokenError, HangUpError, RefusalError
from tests.fakes.registry.personality import Personality
from tests.fakes.registry.tokens import Scopes, Tokens

PIECE = 2**16
_REPOSITORY = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_PLACES = re.compile(
    rf"/v2/(?P<repository>{_REPOSITORY})/"
    r"(?P<kind>blobs/uploads|blobs|manifests|tags|referrers)/(?P<name>[^/]*)"
)
_STEPS = {
    ("blobs/uploads", "POST"): "start",
    ("blobs/uploads", "PATCH"): "patch",
    ("blobs/uploads", "PUT"): "put",
    ("blobs/uploads", "GET"): "status",
    ("blobs/uploads", "DELETE"): "cancel",
    ("blobs", "HEAD"): "blob-head",
    ("blobs", "GET"): "blob",
    ("blobs", "DELETE"): "blob-delete",
    ("manifests", "HEAD"): "manifest-head",
    ("manifests", "GET"): "manifest",
    ("manifests", "PUT"): "manifest-put",
    ("manifests", "DELETE"): "manifest-delete",
    ("tags", "GET"): "tags",
    ("referrers", "GET"): "referrers",
}


class Body(Protocol):
    """The body of a request as it arrives."""

    def pieces(self) -> Iterator[bytes]:
        """To its promised end."""
        ...


def place_of(method: str, path: str, query: dict[str, str]) -> tuple[str, str, str]:
    """Step, repository and name of a request; the step `unknown` for what is no place of a registry."""
    if path in {"/v2/", "/v2"}:
        return "ping", "", ""
    if path == "/token":
        return "token", "", ""
    found = _PLACES.fullmatch(path)
    if found is None:
        return "unknown", "", ""
    step = _STEPS.get((found["kind"], method), "unknown")
    if step == "start" and "digest" in query:
        step = "whole"
    elif step == "start" and "mount" in query:
        step = "mount"
    return step, found["repository"], found["name"]


class Routes:
    """The registry behind `base`, its own address; `cdn` is where blobs are fetched from."""

    def __init__(self, personality: Personality, content: Content, tokens: Tokens, base: str, cdn: str):
        self._is, self._content, self._tokens = personality, content, tokens
        self._base = base if personality.location == "absolute" else ""
        self._cdn = cdn
        self._deeds: dict[str, Callable[[Asked, Body], Answer]] = {
            "ping": self._ping,
            "token": self._token,
            "start": self._start,
            "whole": self._whole,
            "mount": self._mount,
            "patch": self._patch,
            "put": self._put,
            "status": self._status,
            "cancel": self._cancel,
            "blob-head": self._blob,
            "blob": self._blob,
            "blob-delete": self._delete_blob,
            "manifest-head": self._manifest,
            "manifest": self._manifest,
            "manifest-put": self._put_manifest,
            "manifest-delete": self._delete_manifest,
            "tags": self._tags,
            "referrers": self._referrers,
        }

    def answer(self, asked: Asked, body: Body) -> Answer:
        """Do what is asked, if it may be done."""
        deed = self._deeds.get(asked.step)
        if deed is None:
            raise RefusalError("NAME_UNKNOWN", "no such place")
        if asked.step != "token":
            self._tokens.require(asked, self._wanted(asked))
        return deed(asked, body)

    def cdn(self, asked: Asked) -> Answer:
        """A blob, for who knows its address and brings nothing else."""
        if "authorization" in asked.headers:
            text = b"<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>"
            return Answer.of_bytes(400, text, Content_Type="application/xml")
        return self._bytes_of(asked)

    def _wanted(self, asked: Asked) -> Scopes:
        if asked.step == "ping":
            return {}
        if asked.method in {"GET", "HEAD"} and asked.step != "status":
            return {asked.repository: {"pull"}}
        scopes = {asked.repository: {"pull", "push"}}
        if asked.step == "mount" and "from" in asked.query:
            scopes.setdefault(asked.query["from"], set()).add("pull")
        return scopes

    def _ping(self, asked: Asked, body: Body) -> Answer:
        return Answer.of_bytes(200, b"{}", Content_Type="application/json")

    def _token(self, asked: Asked, body: Body) -> Answer:
        if self._is.auth != "token":
            raise RefusalError("NAME_UNKNOWN", "no tokens here")
        return self._tokens.give(asked, b"".join(body.pieces()))

    # Uploads

    def _start(self, asked: Asked, body: Body) -> Answer:
        session = self._content.begin(asked.repository)
        answer = Answer(status=202, headers=self._where(session) | {"Range": "0-0"})
        if self._is.chunk_min is not None:
            answer.headers["OCI-Chunk-Min-Length"] = str(self._is.chunk_min)
        if self._is.chunk_max is not None:
            answer.headers["OCI-Chunk-Max-Length"] = str(self._is.chunk_max)
        return answer

    def _whole(self, asked: Asked, body: Body) -> Answer:
        session = self._content.begin(asked.repository)
        with self._writing(session):
            self._write(session, body)
            return self._committed(session, asked.query["digest"])

    def _mount(self, asked: Asked, body: Body) -> Answer:
        digest, source = asked.query["mount"], asked.query.get("from", "")
        if not self._is.mounts or not source or not self._content.has(source, digest):
            return self._start(asked, body)
        self._content.links[asked.repository].add(digest)
        return self._created(asked.repository, digest)

    def _patch(self, asked: Asked, body: Body) -> Answer:
        session = self._session(asked)
        with self._writing(session):
            self._require_patch(asked, session)
            before = session.received
            self._write(session, body, most=self._is.chunk_max)
            if self._is.checks_range and (told := _content_range(asked)) and told[1] + 1 != session.received:
                raise RefusalError("SIZE_INVALID", "the body is not what Content-Range says")
            session.patches.append(session.received - before)
            status = 202 if len(session.patches) > 1 else self._is.first_patch_status
            return Answer(status=status, headers=self._where(session) | _range(session))

    def _require_patch(self, asked: Asked, session: Session) -> None:
        length = asked.headers.get("content-length")
        if not self._is.streams:
            raise RefusalError("UNSUPPORTED", "no PATCH here")
        if self._is.longest_patch is not None and length is not None and int(length) > self._is.longest_patch:
            raise RefusalError("RANGE_INVALID", "too long with a Content-Length")
        if self._is.one_patch_only and session.patches:
            raise RefusalError("BLOB_UPLOAD_INVALID", "one chunk only")
        if self._is.chunk_min is not None and session.patches and session.patches[-1] < self._is.chunk_min:
            raise RefusalError("SIZE_INVALID", "the chunk before was below the minimum")
        if self._is.chunk_max is not None and length is not None and int(length) > self._is.chunk_max:
            raise RefusalError("SIZE_INVALID", "above the maximum", status=413)
        self._require_range(asked, session)

    def _require_range(self, asked: Asked, session: Session) -> None:
        if not self._is.checks_range or (told := _content_range(asked)) is None:
            return
        if told[0] != session.received:
            headers = self._where(session) | _range(session)
            raise RefusalError("RANGE_INVALID", f"expected {session.received}", headers=headers)

    def _put(self, asked: Asked, body: Body) -> Answer:
        if "digest" not in asked.query:
            raise RefusalError("DIGEST_INVALID", "no digest")
        session = self._session(asked)
        with self._writing(session):
            self._require_range(asked, session)
            self._write(session, body)
            return self._committed(session, asked.query["digest"])

    def _status(self, asked: Asked, body: Body) -> Answer:
        session = self._session(asked)
        return Answer(status=204, headers=self._where(session) | _range(session), size=None)

    def _cancel(self, asked: Asked, body: Body) -> Answer:
        session = self._session(asked)
        with self._writing(session):
            self._content.cancel(session)
        return Answer(status=204, size=None)

    def _session(self, asked: Asked) -> Session:
        session = self._content.session(asked.repository, asked.name)
        # The request before may have broken without that it has been noticed yet.
        if session.busy.acquire(timeout=5):
            session.busy.release()
        session = self._content.session(asked.repository, asked.name)
        if self._is.state_in_location and not _is_state_of(asked.query.get("_state", ""), session):
            self._content.cancel(session)
            raise RefusalError("BLOB_UPLOAD_INVALID", "not the latest location", status=404)
        return session

    @contextmanager
    def _writing(self, session: Session) -> Iterator[None]:
        with session.busy:
            if session.closed:  # by whoever was faster than this request
                raise RefusalError("BLOB_UPLOAD_UNKNOWN", f"no upload {session.id}")
            try:
                yield
            except (BrokenError, HangUpError, ConnectionError, TimeoutError):
                if not self._is.resumable:
                    self._content.cancel(session)
                raise

    def _write(self, session: Session, body: Body, most: int | None = None) -> None:
        got = 0
        for piece in body.pieces():
            got += len(piece)
            if most is not None and got > most:
                raise RefusalError("SIZE_INVALID", "above the maximum", status=413)
            session.file.write(piece)
            session.received += len(piece)

    def _committed(self, session: Session, digest: str) -> Answer:
        self._content.commit(session, digest)
        return self._created(session.repository, digest)

    def _created(self, repository: str, digest: str) -> Answer:
        where = f"{self._base}/v2/{repository}/blobs/{digest}"
        return Answer(status=201, headers={"Location": where, "Docker-Content-Digest": digest})

    def _where(self, session: Session) -> dict[str, str]:
        location = f"{self._base}/v2/{session.repository}/blobs/uploads/{session.id}"
        if self._is.state_in_location:
            session.states += 1
            state = f"{session.states}:{session.received}:{session.id}".encode()
            location += f"?_state={quote(base64.urlsafe_b64encode(state))}"
        return {"Location": location, "Docker-Upload-UUID": session.id}

    # Blobs

    def _blob(self, asked: Asked, body: Body) -> Answer:
        if asked.method == "GET" and self._is.cdn:
            self._content.open(asked.repository, asked.name).close()
            where = f"{self._cdn}/{asked.repository}/{asked.name}?signature=good-for-this-blob"
            return Answer.of_bytes(307, b"see there", Location=where)
        return self._bytes_of(asked)

    def _bytes_of(self, asked: Asked) -> Answer:
        open_ = partial(self._content.open, asked.repository, asked.name)
        open_().close()
        size = self._content.size(asked.name)
        headers = {
            "Docker-Content-Digest": asked.name,
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
        }
        told = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("range", ""))
        if told is None or asked.method == "HEAD":
            return Answer(status=200, headers=headers, body=_read(open_, 0, size), size=size)
        start, end = int(told[1]), min(int(told[2] or size - 1), size - 1)
        if start > end:
            raise RefusalError("RANGE_INVALID", "nothing there", headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        return Answer(status=206, headers=headers, body=_read(open_, start, end + 1), size=end + 1 - start)

    def _delete_blob(self, asked: Asked, body: Body) -> Answer:
        self._require_deletes()
        self._content.open(asked.repository, asked.name).close()
        self._content.links[asked.repository].discard(asked.name)
        return Answer(status=202)

    # Manifests

    def _manifest(self, asked: Asked, body: Body) -> Answer:
        digest, found = self._content.manifest(asked.repository, asked.name)
        headers = {"Docker-Content-Digest": digest, "Content-Type": found.media_type}
        return Answer(status=200, headers=headers, body=(found.data,), size=len(found.data))

    def _put_manifest(self, asked: Asked, body: Body) -> Answer:
        if ":" not in asked.name and not _TAG.fullmatch(asked.name):
            raise RefusalError("MANIFEST_INVALID", f"no tag: {asked.name}")
        data = b""
        for piece in body.pieces():
            data += piece
            if len(data) > LARGEST_MANIFEST:
                raise RefusalError("MANIFEST_INVALID", "too large", status=413)
        kind = asked.headers.get("content-type", "")
        digest, subject = self._content.put_manifest(asked.repository, asked.name, data, kind)
        answer = Answer(status=201, headers={"Docker-Content-Digest": digest})
        answer.headers["Location"] = f"{self._base}/v2/{asked.repository}/manifests/{digest}"
        if subject is not None:
            answer.headers["OCI-Subject"] = subject
        return answer

    def _delete_manifest(self, asked: Asked, body: Body) -> Answer:
        self._require_deletes()
        digest, _ = self._content.manifest(asked.repository, asked.name)
        tags = self._content.tags[asked.repository]
        if ":" in asked.name:
            del self._content.manifests[asked.repository][digest]
        for tag in [tag for tag, named in tags.items() if tag == asked.name or (":" in asked.name and named == digest)]:
            del tags[tag]
        return Answer(status=202)

    def _require_deletes(self) -> None:
        if not self._is.deletes:
            raise RefusalError("UNSUPPORTED", "nothing is deleted here")

    def _tags(self, asked: Asked, body: Body) -> Answer:
        if asked.repository not in self._content.tags:
            raise RefusalError("NAME_UNKNOWN", f"no repository {asked.repository}")
        tags = sorted(tag for tag in self._content.tags[asked.repository] if tag > asked.query.get("last", ""))
        most = int(asked.query.get("n", 1000))
        answer = _json({"name": asked.repository, "tags": tags[:most]})
        if len(tags) > most > 0:
            answer.headers["Link"] = f'</v2/{asked.repository}/tags/list?n={most}&last={tags[most - 1]}>; rel="next"'
        return answer

    def _referrers(self, asked: Asked, body: Body) -> Answer:
        kind = asked.query.get("artifactType")
        data = self._content.referrers(asked.repository, asked.name, kind)
        answer = Answer.of_bytes(200, data, Content_Type="application/vnd.oci.image.index.v1+json")
        if kind is not None:
            answer.headers["OCI-Filters-Applied"] = "artifactType"
        return answer


def _json(document: object) -> Answer:
    return Answer.of_bytes(200, json.dumps(document).encode(), Content_Type="application/json")


def _content_range(asked: Asked) -> tuple[int, int] | None:
    text = asked.headers.get("content-range")
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)-(\d+)", text)
    if found is None:
        raise RefusalError("BLOB_UPLOAD_INVALID", "Content-Range is not start-end")
    return int(found[1]), int(found[2])


def _range(session: Session) -> dict[str, str]:
    return {"Range": f"0-{max(0, session.received - 1)}"}


def _is_state_of(state: str, session: Session) -> bool:
    try:
        _, received, name = base64.urlsafe_b64decode(state).decode().split(":")
    except ValueError:
        return False
    return name == session.id and int(received) == session.received


def _read(open_: Callable[[], BinaryIO], start: int, end: int) -> Iterator[bytes]:
    with open_() as file:
        file.seek(start)
        left = end - start
        while left > 0 and (piece := file.read(min(PIECE, left))):
            left -= len(piece)
            yield piece
