"""One repository: what is there, what it says of it, and what is not believed."""

import gc
import json
import time

import pytest

from mlops_deploy.errors import ContentMismatchError, UnreachableError, UnusableInputError
from mlops_deploy.oci.types import CONFIG, INDEX, LAYER, MANIFEST, Blob, Descriptor
from mlops_deploy.spec.refs import Digest
from tests.fakes.registry import FakeRegistry, cloud, distribution
from tests.fakes.registry.faults import Answers, Bomb, CutsAnswer, CutsRequest, Endless, Header, Loses, WrongSize
from tests.unit.adapters.registry.clients import PATH, Layer, half_done, repository

MIB = 2**20
ABSENT = Digest("0" * 64)
LIE = f"sha256:{'1' * 64}"


@pytest.fixture(params=["distribution", "cloud"])
def fake(request):
    kind = distribution() if request.param == "distribution" else cloud(auth="none")
    with FakeRegistry(kind).running() as running:
        yield running


@pytest.fixture
def ours(fake):
    return repository(fake.host)


@pytest.fixture
def image(ours):
    """A manifest under the tag `v1`, with all that it names."""
    config, layer = Blob.of_json(CONFIG, {"os": "linux"}), Layer.of(1000)
    ours.put_blob(config)
    layer.push(ours)
    found = manifest(config.descriptor, layer.descriptor)
    ours.put_document("v1", found)
    return found


def manifest(config, *layers):
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config.as_json()}
    return Blob.of_json(MANIFEST, document | {"layers": [layer.as_json() for layer in layers]})


def test_a_name_is_what_its_documents_say(fake, ours, image):
    assert ours.name == f"{fake.host}/{PATH}"
    assert ours.resolve("v1") == image.descriptor
    assert ours.resolve(str(image.descriptor.digest)) == image.descriptor
    assert ours.document(image.descriptor.digest) == image.data
    assert fake.steps("manifest-head", "manifest")[0].headers["accept"].startswith(INDEX)


def test_its_connections_end_with_it(fake):
    def connections():
        gc.collect()
        return [one for server in fake._servers for one in tuple(server.connections)]

    ours = repository(fake.host)
    ours.resolve("v1")
    assert connections()
    del ours
    deadline = time.monotonic() + 20
    while connections():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_not_there(ours):
    assert ours.resolve("v2") is None
    assert ours.resolve(str(ABSENT)) is None
    assert not ours.has(Descriptor(media_type=LAYER, digest=ABSENT, size=1))
    with pytest.raises(FileNotFoundError):
        ours.document(ABSENT)


@pytest.mark.parametrize(
    "fault",
    [
        Header(name="Docker-Content-Digest", value=None),
        Header(name="Content-Length", value=None),
        Answers(status=405),
    ],
)
def test_a_registry_that_tells_little_in_its_headers_is_asked_for_the_bytes(fake, ours, image, fault):
    fake.fault("manifest-head", fault)
    assert ours.resolve("v1") == image.descriptor


@pytest.mark.parametrize(
    ("step", "digest"),
    [
        ("manifest", LIE),
        ("manifest", "sha256:../../x"),
        ("manifest-head", LIE),
        ("manifest-head", "sha256:../../x"),
        ("manifest-head", "SHA256:" + "a" * 64),
        ("manifest-head", "md5:abc"),
        ("manifest-head", "sha256:" + "a" * 65),
    ],
)
def test_a_digest_that_is_not_that_of_the_document_is_not_believed(fake, ours, image, step, digest):
    if step == "manifest":
        fake.fault("manifest-head", Answers(status=405), times=9)
    fake.fault(step, Header(name="Docker-Content-Digest", value=digest), times=9)
    with pytest.raises(ContentMismatchError, match=f"the registry `{fake.host}`"):
        ours.resolve(str(image.descriptor.digest))


@pytest.mark.parametrize("kind", [None, "", "text", "a/b/c", "x" * 300 + "/y", "../../etc", "a/b\x01"])
def test_a_kind_that_is_none_is_not_believed(fake, ours, image, kind):
    fake.fault("manifest-head", Header(name="Content-Type", value=kind))
    with pytest.raises(ContentMismatchError, match="of what kind"):
        ours.resolve("v1")


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (WrongSize(more=1), "other bytes"),
        (Endless(promised=None), "more than 4 MiB"),
        (Endless(promised=10**15), "more than 4 MiB"),
        (Bomb(size=MIB), "encoded as `gzip`"),
    ],
)
def test_a_document_that_is_another_is_refused(fake, ours, image, fault, text):
    fake.fault("manifest", fault, times=99)
    with pytest.raises(ContentMismatchError, match=text):
        ours.document(image.descriptor.digest)


def test_a_document_that_breaks_off_is_asked_for_again(fake, ours, image):
    fake.fault("manifest", CutsAnswer(after=10), times=2)
    assert ours.document(image.descriptor.digest) == image.data


def test_a_blob_of_another_size_is_not_there(fake, ours, image):
    layer = Layer.of(1000).descriptor
    assert ours.has(layer)
    assert not ours.has(Descriptor(media_type=LAYER, digest=layer.digest, size=999))


def test_a_blob_is_taken_over(fake, ours):
    layer = Layer.of(1000)
    fake.content.plant_blob("other/place", layer.data)
    asked = len(fake.asked)
    assert ours.mount(layer.descriptor, f"{fake.host}/other/place")
    assert fake.content.has(PATH, str(layer.digest))
    (mount,) = fake.asked[asked:]
    assert mount.query["from"] == "other/place"


@pytest.mark.parametrize("status", [400, 403, 404, 405, 500])
def test_what_is_not_taken_over_is_sent(fake, ours, status):
    layer = Layer.of(1000)
    assert not ours.mount(layer.descriptor, "other/place")
    fake.fault("mount", Answers(status=status), times=9)
    assert not ours.mount(layer.descriptor, f"{fake.host}/other/place")
    assert not half_done(fake)


def test_a_small_blob_goes_in_one_request_and_only_once(fake, ours):
    blob = Blob.of_json(CONFIG, {"a": 1})
    ours.put_blob(blob)
    ours.put_blob(blob)
    assert [step for step, _ in fake.story] == ["blob-head", "start", "put", "blob-head"]
    assert fake.content.has(PATH, str(blob.descriptor.digest))


@pytest.mark.parametrize("fault", [CutsRequest(), CutsRequest(reset=True), Loses(), Answers(status=500)])
@pytest.mark.parametrize("step", ["start", "put", "manifest-put"])
def test_a_document_arrives_whatever_breaks(fake, ours, step, fault):
    fake.fault(step, fault, times=2)
    blob = Blob.of_json(CONFIG, {"a": 1})
    ours.put_blob(blob)
    ours.put_document("v1", manifest(blob.descriptor))
    assert ours.resolve("v1") == manifest(blob.descriptor).descriptor


def test_a_document_that_names_what_is_not_there_is_refused(fake, ours):
    absent = Descriptor(media_type=CONFIG, digest=ABSENT, size=2)
    with pytest.raises(UnusableInputError, match=f"`v1` of `{PATH}`.*MANIFEST_BLOB_UNKNOWN") as caught:
        ours.put_document("v1", manifest(absent))
    assert caught.value.hint == "a part of it is not there any more; push once more"
    assert ours.resolve("v1") is None


def test_a_document_that_was_stored_as_another_is_an_error(fake, ours, image):
    fake.fault("manifest-put", Header(name="Docker-Content-Digest", value=LIE))
    with pytest.raises(ContentMismatchError, match="stored other bytes"):
        ours.put_document(str(image.descriptor.digest), image)


def test_what_keeps_failing_ends_and_is_counted(fake, ours):
    body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}).encode()
    fake.fault("manifest", Answers(status=429, body=body), times=99)
    with pytest.raises(UnreachableError, match=f"429 to `{ABSENT}` of `team/digits`: TOOMANYREQUESTS: slow down"):
        ours.document(ABSENT)
    assert ours.held_back == len(fake.asked) == 6


def test_where_nobody_listens_it_ends_soon():
    with FakeRegistry().running() as fake:
        host = fake.host
    with pytest.raises(UnreachableError, match="connection refused"):
        repository(host).resolve("v1")


def test_redirects_end(fake, ours):
    fake.fault("manifest-head", Answers(status=307, headers={"Location": f"/v2/{PATH}/manifests/v1"}), times=99)
    with pytest.raises(UnusableInputError, match="redirects more than 5 times"):
        ours.resolve("v1")
    assert len(fake.asked) == 6


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/x", "ftp://a/b", "http://user:pw@x/", "//[::1"],
)
def test_a_redirect_to_where_nobody_should_go_is_not_followed(fake, ours, location):
    fake.fault("manifest-head", Answers(status=307, headers={"Location": location}))
    with pytest.raises(UnusableInputError, match="sends us to"):
        ours.resolve("v1")


def test_a_mount_that_is_none_is_not_believed(fake, ours):
    layer = Layer.of(1000)
    layer.push(repository(fake.host, path="team/other"))
    fake.fault("mount", Answers(status=201, headers={"Location": "/v2/"}))
    assert not ours.mount(layer.descriptor, f"{fake.host}/team/other")
    assert ours.mount(layer.descriptor, f"{fake.host}/team/other")
