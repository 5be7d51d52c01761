import threading
import time

import pytest

from mlops_deploy.api import conduit as conduit_module
from mlops_deploy.api.conduit import BrokenOffError, Conduit
from mlops_deploy.errors import DeployError


def put_often(conduit):
    for _ in range(3):
        conduit.put(b"x")


def test_what_is_put_is_iterated_over_in_order_without_a_copy():
    got, blocks = [], [b"a", memoryview(b"b"), b"c"]
    conduit = Conduit(lambda source: got.extend(map(id, source)))
    for block in blocks:
        conduit.put(block)
    conduit.close()
    assert got == list(map(id, blocks))


def test_a_block_is_free_again_when_put_returns():
    seen = []

    def consume(source):
        for block in source:
            time.sleep(0.01)
            seen.append(bytes(block))

    conduit, block = Conduit(consume), bytearray(1)
    for number in range(5):
        block[0] = number
        conduit.put(memoryview(block))
    conduit.close()
    assert seen == [bytes([number]) for number in range(5)]


def test_what_the_consumer_raises_comes_out_of_put():
    def consume(source):
        next(iter(source))
        raise DeployError("no space left on the engine")

    conduit = Conduit(consume)
    with pytest.raises(DeployError, match="no space left on the engine"):
        put_often(conduit)


def test_what_the_consumer_raises_last_comes_out_of_close():
    def consume(source):
        list(source)
        raise DeployError("it could not be unpacked")

    conduit = Conduit(consume)
    conduit.put(b"x")
    with pytest.raises(DeployError, match="it could not be unpacked"):
        conduit.close()


def test_a_consumer_that_takes_less_than_all_is_told():
    conduit = Conduit(lambda source: next(iter(source)) and None)
    with pytest.raises(DeployError, match="less than all"):
        put_often(conduit)


def test_breaking_off_makes_the_consumer_fail():
    ended = []

    def consume(source):
        try:
            list(source)
        except BrokenOffError:
            ended.append("broken off")
            raise

    conduit = Conduit(consume)
    conduit.put(b"x")
    conduit.break_off()
    assert ended == ["broken off"]


def test_breaking_off_frees_a_put_whose_consumer_hangs(monkeypatch):
    monkeypatch.setattr(conduit_module, "_PATIENCE", 0.05)
    hanging, release = threading.Event(), threading.Event()

    def hang(source):
        for _ in source:
            hanging.set()
            release.wait()

    conduit, failures = Conduit(hang), []

    def put():
        try:
            conduit.put(b"x")
        except BrokenOffError as error:
            failures.append(error)

    putting = threading.Thread(target=put)
    putting.start()
    assert hanging.wait(20)
    conduit.break_off()
    putting.join(20)
    assert not putting.is_alive()
    assert len(failures) == 1
    release.set()
