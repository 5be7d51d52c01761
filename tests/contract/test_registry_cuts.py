"""Pushes through a connection that is cut after N bytes, for 200 N over all the requests, and 200 over the answers.

Each push sends an image of two layers, a configuration, its manifest and a tag. Afterwards all of it is right, and a
tag never names what is not there, whatever was cut.
"""

import pytest

from tests.contract.registry_blobs import digest_of, image, some
from tests.contract.registry_worlds import environ_for, world_of
from tests.fakes.fault_proxy import FaultProxy

CUTS = 67
"""Of each kind of registry, so that there are 200 each way."""

FRESH = 10
"""How many pushes a client does before another one takes its place, which asks for all anew."""

LAYERS = (some(8_000), some(700))


@pytest.fixture(scope="module", params=["distribution", "cloud", pytest.param("debian", marks=pytest.mark.registry)])
def through(request, tmp_path_factory):
    """A world, and the proxy before it, whose address the credentials are for."""
    folder = tmp_path_factory.mktemp("world")
    with world_of(request.param, folder) as world, FaultProxy(world.host).running() as proxy:
        environ_for(folder, world.host, proxy.host)
        yield world, proxy


def push(repository):
    """The manifest; its tag names it then."""
    manifest = image(repository, *LAYERS)
    repository.put_document(str(manifest.descriptor.digest), manifest)
    repository.put_document("1", manifest)
    return manifest


def require_right(repository, manifest):
    """Asked past the proxy."""
    assert repository.resolve("1") == manifest.descriptor
    assert repository.document(manifest.descriptor.digest) == manifest.data
    for layer in LAYERS:
        assert b"".join(repository.read(digest_of(layer), size=len(layer))) == layer


def places(world, proxy, direction):
    """Where to cut: up to what a push takes that asks for no more than it must, from the shortest of names.

    The layers are small, so that most cuts are in other requests.
    """
    client = world.client()
    for name in ("a", "b"):
        before = proxy.bytes[direction]
        push(client(f"{proxy.host}/{name}"))
    size = proxy.bytes[direction] - before
    return [round((size - 1) * at / (CUTS - 1)) for at in range(CUTS)]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_push_that_is_cut_anywhere(through, direction):
    world, proxy = through
    direct = world.client()
    for number, after in enumerate(places(world, proxy, direction)):
        if number % FRESH == 0:
            client = world.client()
        name = f"cut/{direction}/{number}"
        done = proxy.cut(after, direction=direction, reset=number % 2 == 1)
        manifest = push(client(f"{proxy.host}/{name}"))
        assert done.wait(30), f"nothing was cut after {after} bytes"
        require_right(direct(f"{world.host}/{name}"), manifest)
    if world.fake is not None:
        assert world.fake.content.dangling() == []
