"""The double is a registry: what the distribution specification asks for, held against it and against Debian's.

Asked with a plain HTTP client, so that nothing of the product's own client is taken for the truth.
"""

import base64
import hashlib
import json
import re
import socket
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
import urllib3

from tests.contract.registry_worlds import PASSWORD, USER, world_of
from tests.fakes.registry import FakeRegistry, cloud, distribution

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
OCTETS = {"Content-Type": "application/octet-stream"}


def digest_of(data, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class Raw:
    """A client that does what it is told, with a token where one is wanted."""

    def __init__(self, world):
        self.kind, self.base = world.kind, f"http://{world.host}"
        self.http = urllib3.PoolManager(retries=False)
        self.tokens = {}

    def __call__(self, method, url, data=None, headers=(), *, scope=None, **options):
        url = urljoin(self.base, url)
        sent = dict(headers)
        if self.kind == "cloud" and url.startswith(self.base):
            sent |= {"Authorization": f"Bearer {self.token(scope or self.scope_of(url))}"}
        return self.http.request(method, url, body=data, headers=sent, redirect=False, **options)

    def scope_of(self, url):
        name = urlsplit(url).path.removeprefix("/v2/")
        return f"repository:{re.split('/(blobs|manifests|tags|referrers)/', name)[0]}:pull,push"

    def token(self, scope):
        if scope not in self.tokens:
            who = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            fields = {"service": "it", "scope": scope}
            answer = self.http.request(
                "GET", f"{self.base}/token", fields=fields, headers={"Authorization": f"Basic {who}"}
            )
            self.tokens[scope] = json.loads(answer.data)["token"]
        return self.tokens[scope]

    def get_blob(self, name, digest, headers=(), **options):
        answer = self("GET", f"/v2/{name}/blobs/{digest}", headers=headers, **options)
        if answer.status == 307:
            answer = self.http.request("GET", answer.headers["Location"], headers=dict(headers), **options)
        return answer

    def begin(self, name):
        answer = self("POST", f"/v2/{name}/blobs/uploads/")
        assert answer.status == 202
        return answer.headers["Location"]

    def put(self, location, data, digest=None, headers=()):
        joint = "&" if "?" in location else "?"
        return self("PUT", f"{location}{joint}digest={digest or digest_of(data)}", data, OCTETS | dict(headers))

    def push(self, name, data):
        assert self.put(self.begin(name), data).status == 201
        return {"mediaType": "application/octet-stream", "digest": digest_of(data), "size": len(data)}


def errors_of(answer):
    return [error["code"] for error in json.loads(answer.data)["errors"]]


def manifest(config, *layers, **more):
    parts = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config | {"mediaType": EMPTY}, "layers": layers}
    return json.dumps(parts | more).encode()


@pytest.fixture(scope="module", params=["distribution", "cloud", pytest.param("debian", marks=pytest.mark.registry)])
def world(request, tmp_path_factory):
    with world_of(request.param, tmp_path_factory.mktemp("world")) as one:
        yield one


@pytest.fixture
def raw(world):
    return Raw(world)


@pytest.fixture
def name(request):
    return "c/" + request.node.originalname.removeprefix("test_").replace("_", "-")


def test_it_says_what_it_is(raw):
    assert raw("GET", "/v2/", scope="repository:any:pull").status == 200


class TestBlobs:
    def test_absent(self, raw, name):
        url = f"/v2/{name}/blobs/{digest_of(b'absent')}"
        assert raw("HEAD", url).status == 404
        answer = raw("GET", url)
        assert answer.status == 404
        assert errors_of(answer) in (["BLOB_UNKNOWN"], ["NAME_UNKNOWN"])

    def test_head_and_get(self, raw, name):
        data = b"x" * 100_000
        raw.push(name, data)
        head = raw("HEAD", f"/v2/{name}/blobs/{digest_of(data)}")
        assert (head.status, head.headers["Content-Length"]) == (200, "100000")
        assert head.headers["Docker-Content-Digest"] == digest_of(data)
        assert raw.get_blob(name, digest_of(data)).data == data

    @pytest.mark.parametrize(
        ("asked", "start", "end"), [("5-", 5, 1000), ("0-9", 0, 10), ("999-", 999, 1000), ("990-5000", 990, 1000)]
    )
    def test_ranges(self, raw, name, asked, start, end):
        data = bytes(range(250)) * 4
        raw.push(name, data)
        answer = raw.get_blob(name, digest_of(data), {"Range": f"bytes={asked}"})
        assert (answer.status, answer.data) == (206, data[start:end])
        assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/1000"

    def test_a_range_behind_the_end(self, raw, name):
        raw.push(name, b"short")
        answer = raw.get_blob(name, digest_of(b"short"), {"Range": "bytes=5-"}, preload_content=False)
        # Debian's promises five bytes of text and sends none, so its body is not read.
        assert answer.status == 416
        answer.close()

    @pytest.mark.parametrize("digest", ["sha256:" + "0" * 63, "sha256:" + "A" * 64, "md5:" + "0" * 32, "sha256:"])
    def test_what_is_no_digest(self, raw, name, digest):
        assert raw("GET", f"/v2/{name}/blobs/{digest}").status in {400, 404}

    def test_deleted(self, raw, name):
        raw.push(name, b"soon gone")
        url = f"/v2/{name}/blobs/{digest_of(b'soon gone')}"
        assert raw("DELETE", url).status == 202
        assert raw("HEAD", url).status == 404


class TestUploads:
    def test_begun(self, raw, name):
        answer = raw("POST", f"/v2/{name}/blobs/uploads/")
        assert answer.status == 202
        assert answer.headers["Range"] == "0-0"
        assert f"/v2/{name}/blobs/uploads/" in answer.headers["Location"]

    def test_put_alone(self, raw, name):
        raw.push(name, b"in one")
        assert raw.get_blob(name, digest_of(b"in one")).data == b"in one"

    def test_the_location_of_the_blob(self, raw, name):
        answer = raw.put(raw.begin(name), b"where is it")
        assert urlsplit(answer.headers["Location"]).path == f"/v2/{name}/blobs/{digest_of(b'where is it')}"
        assert answer.headers["Docker-Content-Digest"] == digest_of(b"where is it")

    def test_post_alone(self, raw, name):
        """May be taken (201), or only begin an upload (202): both are right."""
        answer = raw("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(b'at once')}", b"at once", OCTETS)
        assert answer.status in {201, 202}
        if answer.status == 202:
            assert raw.put(answer.headers["Location"], b"at once").status == 201
        assert raw.get_blob(name, digest_of(b"at once")).data == b"at once"

    def test_streamed(self, raw, name):
        data = b"s" * 300_000
        answer = raw("PATCH", raw.begin(name), data, OCTETS)
        assert (answer.status, answer.headers["Range"]) == (202, "0-299999")
        assert raw.put(answer.headers["Location"], b"", digest_of(data)).status == 201
        assert raw.get_blob(name, digest_of(data)).data == data

    def test_streamed_in_http_chunks(self, raw, name):
        pieces = [b"a" * 70_000, b"b", b"c" * 130_000]
        answer = raw("PATCH", raw.begin(name), iter(pieces), OCTETS)
        assert (answer.status, answer.headers["Range"]) == (202, "0-200000")
        assert raw.put(answer.headers["Location"], b"", digest_of(b"".join(pieces))).status == 201

    def test_in_ranges_and_the_rest_with_the_put(self, raw, name):
        data = bytes(range(256)) * 40
        location, at = raw.begin(name), 0
        for size in (4000, 4000):
            told = {"Content-Range": f"{at}-{at + size - 1}", "Content-Length": str(size)}
            answer = raw("PATCH", location, data[at : at + size], OCTETS | told)
            assert (answer.status, answer.headers["Range"]) == (202, f"0-{at + size - 1}")
            location, at = answer.headers["Location"], at + size
        told = {"Content-Range": f"{at}-{len(data) - 1}"}
        assert raw.put(location, data[at:], digest_of(data), told).status == 201
        assert raw.get_blob(name, digest_of(data)).data == data

    def test_between_two_chunks_it_says_how_much_it_has(self, raw, name):
        location = raw("PATCH", raw.begin(name), b"12345", OCTETS).headers["Location"]
        answer = raw("GET", location)
        assert (answer.status, answer.headers["Range"]) == (204, "0-4")
        location = raw("PATCH", answer.headers["Location"], b"678", OCTETS).headers["Location"]
        assert raw.put(location, b"", digest_of(b"12345678")).status == 201

    def test_cancelled(self, raw, name):
        location = raw("PATCH", raw.begin(name), b"12345", OCTETS).headers["Location"]
        assert raw("DELETE", location).status == 204
        assert raw("GET", location).status == 404

    @pytest.mark.parametrize("digest", [digest_of(b"other"), "sha256:x", "sha256:" + "A" * 64])
    def test_a_wrong_digest(self, raw, name, digest):
        answer = raw.put(raw.begin(name), b"these bytes", digest)
        assert answer.status == 400
        assert errors_of(answer) == ["DIGEST_INVALID"]
        assert raw("HEAD", f"/v2/{name}/blobs/{digest_of(b'these bytes')}").status == 404

    def test_without_a_digest(self, raw, name):
        assert raw("PUT", raw.begin(name), b"x", OCTETS).status == 400

    def test_an_unknown_session(self, raw, name):
        for method in ("GET", "PATCH", "DELETE"):
            assert raw(method, f"/v2/{name}/blobs/uploads/7cd46b30-26ab-1e48-0f35-1ad4a8e8b9d0").status == 404

    def test_an_older_location(self, raw, world, name):
        """Where a location has a state, that of before is an error; it does not matter where it has none."""
        first = raw.begin(name)
        raw("PATCH", first, b"12345", OCTETS)
        answer = raw("PATCH", first, b"678", OCTETS)
        assert answer.status == (202 if world.kind == "cloud" else 404)
        assert bool(parse_qs(urlsplit(first).query).get("_state")) == (world.kind != "cloud")

    def test_a_chunk_out_of_order(self, raw, world, name):
        location = raw.begin(name)
        told = {"Content-Range": "5-9", "Content-Length": "5"}
        answer = raw("PATCH", location, b"56789", OCTETS | told)
        # Debian's looks at no Content-Range.
        assert answer.status == (416 if world.kind == "cloud" else 202)

    def test_a_session_whose_request_broke(self, raw, world, name):
        location = raw.begin(name)
        broken(raw, world, location, b"x" * 5000, promised=100_000)
        answer = raw("GET", location)
        if world.kind == "cloud":
            assert (answer.status, answer.headers["Range"]) == (204, "0-4999")
            told = {"Content-Range": "5000-5003"}
            location = raw("PATCH", answer.headers["Location"], b"rest", OCTETS | told).headers["Location"]
            assert raw.put(location, b"", digest_of(b"x" * 5000 + b"rest")).status == 201
        else:
            assert answer.status == 404


def broken(raw, world, location, data, promised):
    """A PATCH that promises more than it brings."""
    host, _, port = world.host.partition(":")
    url = urlsplit(urljoin(raw.base, location))
    head = f"PATCH {url.path}?{url.query} HTTP/1.1\r\nHost: {world.host}\r\nContent-Length: {promised}\r\n"
    if world.kind == "cloud":
        head += f"Authorization: Bearer {raw.token(raw.scope_of(location))}\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(head.encode() + b"\r\n" + data)
        wire.shutdown(socket.SHUT_WR)
        while wire.recv(1000):
            pass


class TestMounts:
    def test_from_where_it_is(self, raw, name):
        raw.push(f"{name}/source", b"to be mounted")
        digest = digest_of(b"to be mounted")
        scope = f"repository:{name}/target:pull,push repository:{name}/source:pull"
        answer = raw("POST", f"/v2/{name}/target/blobs/uploads/?mount={digest}&from={name}/source", scope=scope)
        assert answer.status == 201
        assert raw.get_blob(f"{name}/target", digest).data == b"to be mounted"

    def test_from_where_it_is_not(self, raw, name):
        scope = f"repository:{name}:pull,push repository:{name}/source:pull"
        url = f"/v2/{name}/blobs/uploads/?mount={digest_of(b'nowhere')}&from={name}/source"
        answer = raw("POST", url, scope=scope)
        assert answer.status == 202
        assert raw.put(answer.headers["Location"], b"nowhere").status == 201


class TestManifests:
    def test_absent(self, raw, name):
        answer = raw("GET", f"/v2/{name}/manifests/1")
        assert answer.status == 404
        assert errors_of(answer) in (["MANIFEST_UNKNOWN"], ["NAME_UNKNOWN"])

    def test_by_tag_and_by_digest(self, raw, name):
        data = manifest(raw.push(name, b"{}"), raw.push(name, b"layer"))
        answer = raw("PUT", f"/v2/{name}/manifests/1", data, {"Content-Type": MANIFEST})
        assert answer.status == 201
        assert answer.headers["Docker-Content-Digest"] == digest_of(data)
        for reference in ("1", digest_of(data)):
            for method in ("GET", "HEAD"):
                answer = raw(method, f"/v2/{name}/manifests/{reference}", headers={"Accept": MANIFEST})
                assert (answer.status, answer.headers["Content-Type"]) == (200, MANIFEST)
                assert answer.headers["Docker-Content-Digest"] == digest_of(data)
                assert answer.headers["Content-Length"] == str(len(data))
                assert method == "HEAD" or answer.data == data

    def test_a_blob_that_is_not_there(self, raw, name):
        layer = {"mediaType": "application/octet-stream", "digest": digest_of(b"gone"), "size": 4}
        data = manifest(raw.push(name, b"{}"), layer)
        answer = raw("PUT", f"/v2/{name}/manifests/1", data, {"Content-Type": MANIFEST})
        assert answer.status in {400, 404}
        assert set(errors_of(answer)) <= {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"}
        assert raw("HEAD", f"/v2/{name}/manifests/1").status == 404

    def test_an_index_of_what_is_not_there(self, raw, name):
        entry = {"mediaType": MANIFEST, "digest": digest_of(b"gone"), "size": 4}
        data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
        assert raw("PUT", f"/v2/{name}/manifests/1", data, {"Content-Type": INDEX}).status in {400, 404}

    def test_an_index(self, raw, name):
        data = manifest(raw.push(name, b"{}"), raw.push(name, b"layer"))
        raw("PUT", f"/v2/{name}/manifests/{digest_of(data)}", data, {"Content-Type": MANIFEST})
        entry = {"mediaType": MANIFEST, "digest": digest_of(data), "size": len(data)}
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
        assert raw("PUT", f"/v2/{name}/manifests/all", index, {"Content-Type": INDEX}).status == 201
        assert raw("GET", f"/v2/{name}/manifests/all", headers={"Accept": INDEX}).data == index

    @pytest.mark.parametrize("data", [b"", b"no json", b"[]", b"{}"])
    def test_what_is_no_manifest(self, raw, world, name, data):
        answer = raw("PUT", f"/v2/{name}/manifests/1", data, {"Content-Type": MANIFEST})
        # Debian's stumbles over an empty object.
        assert answer.status == (500 if (world.kind, data) == ("debian", b"{}") else 400)

    def test_another_media_type_than_it_says(self, raw, name):
        data = manifest(raw.push(name, b"{}"), mediaType=INDEX)
        assert raw("PUT", f"/v2/{name}/manifests/1", data, {"Content-Type": MANIFEST}).status == 400

    def test_under_the_digest_of_another(self, raw, name):
        data = manifest(raw.push(name, b"{}"))
        answer = raw("PUT", f"/v2/{name}/manifests/{digest_of(b'x')}", data, {"Content-Type": MANIFEST})
        assert answer.status == 400

    def test_above_four_mib(self, raw, name):
        data = manifest(raw.push(name, b"{}"), annotations={"x": "y" * 5 * 2**20})
        answer = raw("PUT", f"/v2/{name}/manifests/1", data, {"Content-Type": MANIFEST})
        assert answer.status in {400, 413}

    def test_a_bad_tag(self, raw, name):
        data = manifest(raw.push(name, b"{}"))
        assert raw("PUT", f"/v2/{name}/manifests/-x", data, {"Content-Type": MANIFEST}).status in {400, 404}

    def test_listed_tags(self, raw, world, name):
        data = manifest(raw.push(name, b"{}"))
        for tag in ("b", "a", "c"):
            raw("PUT", f"/v2/{name}/manifests/{tag}", data, {"Content-Type": MANIFEST})
        found = json.loads(raw("GET", f"/v2/{name}/tags/list").data)
        # Debian's gives them in no order.
        tags = found["tags"] if world.fake else sorted(found["tags"])
        assert (found["name"], tags) == (name, ["a", "b", "c"])
        if world.fake:
            page = raw("GET", f"/v2/{name}/tags/list?n=2")
            assert json.loads(page.data)["tags"] == ["a", "b"]
            assert page.headers["Link"] == f'</v2/{name}/tags/list?n=2&last=b>; rel="next"'
        assert raw("GET", "/v2/c/no-such/tags/list").status == 404

    def test_deleted(self, raw, name):
        data = manifest(raw.push(name, b"{}"))
        raw("PUT", f"/v2/{name}/manifests/1", data, {"Content-Type": MANIFEST})
        assert raw("DELETE", f"/v2/{name}/manifests/{digest_of(data)}").status == 202
        assert raw("HEAD", f"/v2/{name}/manifests/1").status == 404


def test_referrers():
    """Of 1.1, which Debian's does not know."""
    with FakeRegistry().running() as fake:
        raw = Raw(fake_world(fake))
        subject = manifest(raw.push("r", b"{}"))
        raw("PUT", "/v2/r/manifests/1", subject, {"Content-Type": MANIFEST})
        named = {"mediaType": MANIFEST, "digest": digest_of(subject), "size": len(subject)}
        signature = manifest(raw.push("r", b"{}"), subject=named, artifactType="application/x-sig")
        answer = raw("PUT", f"/v2/r/manifests/{digest_of(signature)}", signature, {"Content-Type": MANIFEST})
        assert answer.headers["OCI-Subject"] == digest_of(subject)
        found = raw("GET", f"/v2/r/referrers/{digest_of(subject)}?artifactType=application/x-sig")
        assert found.headers["OCI-Filters-Applied"] == "artifactType"
        assert [one["digest"] for one in json.loads(found.data)["manifests"]] == [digest_of(signature)]
        none = json.loads(raw("GET", f"/v2/r/referrers/{digest_of(b'x')}").data)
        assert none["manifests"] == []


class fake_world:  # noqa: N801 - a world with no credentials
    def __init__(self, fake):
        self.kind, self.host = "plain", fake.host


class TestWhatCloudsDo:
    def ask(self, fake):
        return Raw(fake_world(fake))

    def test_a_limit_with_content_length_alone(self):
        with FakeRegistry(distribution(longest_patch=4 * 2**20)).running() as fake:
            raw, data = self.ask(fake), b"x" * (4 * 2**20 + 1)
            assert raw("PATCH", raw.begin("a"), data, OCTETS).status == 416
            assert raw("PATCH", raw.begin("a"), iter([data]), OCTETS).status == 202

    def test_201_for_the_first_patch(self):
        with FakeRegistry(distribution(first_patch_status=201)).running() as fake:
            raw = self.ask(fake)
            first = raw("PATCH", raw.begin("a"), b"1", OCTETS)
            assert first.status == 201
            assert raw("PATCH", first.headers["Location"], b"2", OCTETS).status == 202

    def test_one_chunk_only(self):
        with FakeRegistry(distribution(one_patch_only=True)).running() as fake:
            raw = self.ask(fake)
            first = raw("PATCH", raw.begin("a"), b"1", OCTETS)
            assert raw("PATCH", first.headers["Location"], b"2", OCTETS).status == 400

    def test_chunks_have_a_least_and_a_most(self):
        with FakeRegistry(distribution(chunk_min=10, chunk_max=20)).running() as fake:
            raw = self.ask(fake)
            answer = raw("POST", "/v2/a/blobs/uploads/")
            assert answer.headers["OCI-Chunk-Min-Length"] == "10"
            assert answer.headers["OCI-Chunk-Max-Length"] == "20"
            assert raw("PATCH", raw.begin("a"), b"x" * 21, OCTETS).status == 413
            assert raw("PATCH", raw.begin("a"), iter([b"x" * 15, b"x" * 15]), OCTETS).status == 413
            small = raw("PATCH", raw.begin("a"), b"x" * 9, OCTETS).headers["Location"]
            assert raw("PATCH", small, b"x" * 10, OCTETS).status == 400

    def test_whole_blobs_only(self):
        with FakeRegistry(distribution(streams=False)).running() as fake:
            raw = self.ask(fake)
            assert raw("PATCH", raw.begin("a"), b"x", OCTETS).status == 405
            assert raw.put(raw.begin("a"), b"x").status == 201

    def test_the_other_port_refuses_who_brings_a_token(self):
        with FakeRegistry(distribution(cdn=True)).running() as fake:
            raw = self.ask(fake)
            raw.push("a", b"far away")
            answer = raw("GET", f"/v2/a/blobs/{digest_of(b'far away')}")
            assert answer.status == 307
            assert urlsplit(answer.headers["Location"]).netloc == fake.cdn != fake.host
            assert raw.http.request("GET", answer.headers["Location"]).data == b"far away"
            refused = raw.http.request("GET", answer.headers["Location"], headers={"Authorization": "Bearer x"})
            assert refused.status == 400
            assert [one.status for one in fake.steps("cdn")] == [200, 400]

    def test_tokens(self):
        with FakeRegistry(cloud(identity_tokens={"refresh-me": "ann"})).running() as fake:
            http = urllib3.PoolManager(retries=False)
            answer = http.request("GET", f"{fake.url}/v2/a/manifests/1")
            assert answer.status == 401
            challenge = answer.headers["WWW-Authenticate"]
            assert challenge == f'Bearer realm="{fake.url}/token",service="{fake.host}",scope="repository:a:pull"'
            scope = {"scope": "repository:a:pull"}
            wrong = {"Authorization": "Basic " + base64.b64encode(b"ann:wrong").decode()}
            assert http.request("GET", f"{fake.url}/token", fields=scope, headers=wrong).status == 401
            assert http.request("GET", f"{fake.url}/token", fields=scope).status == 401
            form = {"grant_type": "refresh_token", "refresh_token": "refresh-me", "service": "x"} | scope
            given = http.request("POST", f"{fake.url}/token", fields=form, encode_multipart=False)
            mine = {"Authorization": f"Bearer {json.loads(given.data)['access_token']}"}
            assert http.request("GET", f"{fake.url}/v2/a/manifests/1", headers=mine).status == 404
            assert http.request("POST", f"{fake.url}/v2/a/blobs/uploads/", headers=mine).status == 401
            assert http.request("GET", f"{fake.url}/v2/b/manifests/1", headers=mine).status == 401
            fake.expire_tokens()
            assert http.request("GET", f"{fake.url}/v2/a/manifests/1", headers=mine).status == 401

    def test_blobs_in_a_folder(self, tmp_path):
        with FakeRegistry(distribution(), folder=tmp_path).running() as fake:
            raw = self.ask(fake)
            raw.push("a", b"on disk")
            assert raw.get_blob("a", digest_of(b"on disk")).data == b"on disk"
            raw("HEAD", f"/v2/a/blobs/{digest_of(b'on disk')}")
            raw("PATCH", raw.begin("a"), b"unfinished", OCTETS)
            assert (tmp_path / digest_of(b"on disk").replace(":", "-")).read_bytes() == b"on disk"
        assert len(list(tmp_path.iterdir())) == 1
