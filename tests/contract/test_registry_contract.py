"""What `ports.Repository` and `ports.Upload` promise, of the registry client, against the doubles and Debian's."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from mlops_deploy.errors import ContentMismatchError, DeployError, UnusableInputError
from mlops_deploy.oci.types import MANIFEST, Blob
from mlops_deploy.spec.refs import Digest
from tests.contract.registry_blobs import Source, described, digest_of, image, index_of, send, small, some
from tests.contract.registry_worlds import world_of

MIB = 2**20
ABSENT = Digest("0" * 64)


@pytest.fixture(scope="module", params=["distribution", "cloud", pytest.param("debian", marks=pytest.mark.registry)])
def world(request, tmp_path_factory):
    with world_of(request.param, tmp_path_factory.mktemp("world")) as one:
        yield one


@pytest.fixture
def double(world):
    """The world where it is one of the doubles, which count."""
    if world.fake is None:
        pytest.skip("only a double counts")
    return world


@pytest.fixture
def name(request):
    return "c/" + request.node.originalname.removeprefix("test_").replace("_", "-")


@pytest.fixture
def repository(world, name):
    return world.repository(name)


def test_its_name_has_its_registry(world, repository, name):
    assert repository.name == f"{world.host}/{name}"
    assert repository.held_back == 0


class TestDocuments:
    def test_nothing_there(self, repository):
        assert repository.resolve("1") is None
        assert repository.resolve(str(ABSENT)) is None
        with pytest.raises(FileNotFoundError):
            repository.document(ABSENT)

    def test_by_tag_and_by_digest(self, repository):
        manifest = image(repository, some(1000))
        repository.put_document(str(manifest.descriptor.digest), manifest)
        assert repository.resolve("1") is None
        repository.put_document("1", manifest)
        assert repository.resolve("1") == manifest.descriptor
        assert repository.resolve(str(manifest.descriptor.digest)) == manifest.descriptor
        assert repository.document(manifest.descriptor.digest) == manifest.data

    def test_an_index_of_two_images(self, repository):
        manifests = [image(repository, some(1000)), image(repository, some(1000), some(2000))]
        for one in manifests:
            repository.put_document(str(one.descriptor.digest), one)
        index = index_of(*manifests)
        repository.put_document("both", index)
        assert repository.resolve("both") == index.descriptor
        assert json.loads(repository.document(index.descriptor.digest))["manifests"]

    def test_a_tag_moves(self, repository):
        for seed in (1, 2):
            manifest = image(repository, some(10, seed))
            repository.put_document("moving", manifest)
            assert repository.resolve("moving") == manifest.descriptor

    def test_what_it_names_is_missing(self, repository):
        manifest = image(repository)
        lacking = json.loads(manifest.data) | {"layers": [described(b"never sent").as_json()]}
        with pytest.raises(UnusableInputError):
            repository.put_document("lacking", Blob.of_json(MANIFEST, lacking))
        assert repository.resolve("lacking") is None

    def test_of_almost_four_mib(self, repository):
        layers = [described(some(10)).as_json(annotations={"x": "y" * (4 * MIB - 2000)})]
        large = Blob.of_json(MANIFEST, json.loads(image(repository, some(10)).data) | {"layers": layers})
        assert 4 * MIB - 2000 < len(large.data) <= 4 * MIB
        repository.put_document("large", large)
        assert repository.document(large.descriptor.digest) == large.data


class TestReading:
    def test_nothing_there(self, repository):
        with pytest.raises(FileNotFoundError):
            list(repository.read(ABSENT))
        assert not repository.has(described(b"never sent"))

    def test_whole_in_bounded_pieces(self, repository):
        data = some(5 * MIB + 17)
        send(repository, data)
        pieces = list(repository.read(digest_of(data)))
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) <= MIB

    @pytest.mark.parametrize("start", [1, 65_536, 299_999])
    @pytest.mark.parametrize("sized", [True, False])
    def test_from_somewhere_on(self, repository, start, sized):
        data = some(300_000)
        send(repository, data)
        size = len(data) if sized else None
        assert b"".join(repository.read(digest_of(data), start=start, size=size)) == data[start:]

    def test_left_in_the_middle(self, repository):
        data = some(8 * MIB)
        send(repository, data)
        reading = repository.read(digest_of(data))
        next(reading)
        reading.close()
        assert b"".join(repository.read(digest_of(data), start=7 * MIB)) == data[7 * MIB :]

    def test_of_that_size_only(self, repository):
        send(repository, some(1000))
        assert repository.has(described(some(1000)))
        assert not repository.has(replace(described(some(1000)), size=1001))

    def test_more_than_its_size_says(self, repository):
        send(repository, some(1000))
        with pytest.raises(ContentMismatchError):
            list(repository.read(digest_of(some(1000)), size=999))

    def test_less_than_its_size_says(self, repository):
        send(repository, some(1000))
        with pytest.raises(ContentMismatchError):
            list(repository.read(digest_of(some(1000)), size=1001))

    def test_by_several_threads(self, repository):
        blobs = [some(MIB, seed) for seed in range(8)]
        for data in blobs:
            send(repository, data)
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(lambda data: b"".join(repository.read(digest_of(data))), blobs)
            assert list(found) == blobs


class TestUploads:
    @pytest.mark.parametrize("size", [0, 1, 256 * 1024, MIB + 1, 5 * MIB])
    def test_in_one_pass(self, repository, size):
        data = some(size, 1)
        source = send(repository, data)
        assert source.times == 0
        assert repository.has(described(data))
        assert b"".join(repository.read(digest_of(data), size=size)) == data

    def test_each_byte_goes_once(self, world, name):
        if world.fake is None:
            pytest.skip("only a double counts")
        before = world.fake.uploaded()
        send(world.repository(name), some(3 * MIB, 2))
        assert world.fake.uploaded() - before == 3 * MIB

    def test_a_digest_that_is_not_that_of_the_bytes(self, repository):
        data = some(1000, 3)
        upload = repository.upload(len(data), Source(data).again)
        upload.write(memoryview(data))
        with pytest.raises(DeployError):
            upload.commit(digest_of(b"other"))
        assert not repository.has(described(b"other"))
        assert not repository.has(described(data))

    def test_given_up(self, world, repository):
        data = some(2 * MIB, 4)
        upload = repository.upload(len(data), Source(data).again)
        upload.write(memoryview(data)[:MIB])
        upload.abort()
        upload.abort()
        assert not repository.has(described(data))
        send(repository, data)
        assert repository.has(described(data))

    def test_given_up_before_the_first_byte(self, repository):
        repository.upload(1000, Source(some(1000)).again).abort()

    def test_given_up_when_it_is_there(self, repository):
        data = some(1000, 5)
        upload = repository.upload(len(data), Source(data).again)
        upload.write(memoryview(data))
        upload.commit(digest_of(data))
        upload.abort()
        assert b"".join(repository.read(digest_of(data))) == data

    def test_given_up_from_another_thread(self, repository):
        data = some(64 * 1024, 6)
        upload = repository.upload(MIB * 1024, Source(data).again)
        ended = threading.Event()

        def write():
            for _ in range(1024 * 16):
                upload.write(memoryview(data))

        def work():
            with pytest.raises(DeployError):
                write()
            ended.set()

        thread = threading.Thread(target=work)
        thread.start()
        upload.abort()
        assert ended.wait(60)
        thread.join()

    def test_side_by_side(self, repository):
        blobs = [some(2 * MIB, seed) for seed in range(10, 14)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda data: send(repository, data), blobs))
        assert all(repository.has(described(data)) for data in blobs)

    def test_the_same_blob_twice(self, repository):
        send(repository, some(1000, 7))
        send(repository, some(1000, 7))
        assert repository.has(described(some(1000, 7)))

    def test_a_small_one_goes_once(self, world, name):
        blob = small(b'{"small":1}')
        for _ in range(3):
            world.repository(name).put_blob(blob)
        assert b"".join(world.repository(name).read(blob.descriptor.digest)) == blob.data
        if world.fake is not None:
            assert world.fake.content.stored[str(blob.descriptor.digest)] == 1


class TestMounts:
    def test_from_a_repository_that_has_it(self, world, name):
        source, target = (world.repository(f"{name}/{one}") for one in ("source", "target"))
        data = some(1000, 8)
        send(source, data)
        assert not target.has(described(data))
        assert target.mount(described(data), source.name)
        assert b"".join(target.read(digest_of(data))) == data

    def test_from_one_that_has_not(self, world, name):
        repository = world.repository(name)
        data = some(1000, 9)
        assert not repository.mount(described(data), f"{world.host}/{name}/none")
        send(repository, data)
        assert repository.has(described(data))


def test_nothing_is_left_behind(world):
    """All the tests above have ended their sessions, also those that were given up or not granted."""
    if world.fake is None:
        pytest.skip("only a double tells")
    assert [one for one in world.fake.content.sessions.values() if not one.closed] == []
    assert world.fake.content.dangling() == []
