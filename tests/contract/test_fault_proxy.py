"""The proxy does what it is told: nothing, or exactly this."""

import socket
import threading
from contextlib import suppress

import pytest

from tests.fakes.fault_proxy import FaultProxy


@pytest.fixture
def echo():
    """A server that gives back what it gets, in a proxy."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    one, _ = listener.accept()
                except OSError:
                    return
                with one, suppress(OSError):
                    while piece := one.recv(1000):
                        one.sendall(piece)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with FaultProxy(f"127.0.0.1:{listener.getsockname()[1]}").running() as proxy:
            yield proxy
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def talk(proxy, data=b"0123456789"):
    """What came back before the end."""
    host, _, port = proxy.host.partition(":")
    got = b""
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(data)
        wire.shutdown(socket.SHUT_WR)
        while piece := wire.recv(100):
            got += piece
    return got


def test_everything_goes_through_and_is_counted(echo):
    data = b"x" * 100_000  # more than a piece, and less than the buffers hold while nobody reads what comes back
    assert talk(echo, data) == data
    assert (echo.connections, echo.bytes) == (1, {"up": len(data), "down": len(data)})


def test_cuts_after_some_bytes_on_the_way_there(echo):
    done = echo.cut(4)
    assert len(talk(echo)) <= 4
    assert done.wait(60)
    assert echo.bytes["up"] == 4


def test_cuts_after_some_bytes_on_the_way_back(echo):
    echo.cut(3, direction="down")
    assert talk(echo) == b"012"
    assert talk(echo) == b"0123456789"


def test_a_cut_counts_over_connections(echo):
    done = echo.cut(15)
    assert talk(echo) == b"0123456789"
    assert not done.is_set()
    talk(echo)
    assert done.wait(60)
    assert echo.bytes["up"] == 15


def test_resets(echo):
    echo.cut(0, direction="down", reset=True)
    with pytest.raises(OSError, match=r"reset|not connected"):
        talk(echo)


def test_drips(echo):
    echo.delay, echo.drip = 0.001, 1
    assert talk(echo) == b"0123456789"


def test_refuses(echo):
    echo.refuses = True
    with suppress(OSError):
        assert talk(echo) == b""
    echo.heal()
    assert talk(echo) == b"0123456789"
