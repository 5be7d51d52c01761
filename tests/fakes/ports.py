"""Ports for tests that tell a program where to listen some time before it does."""

import random
import socket
from contextlib import suppress
from itertools import cycle

# Below those that the kernel gives to whoever asks for any, and those of local slots: between the choice and the use
# nobody gets one by chance.
_ORDER = cycle(random.sample(range(12_000, 18_000), 6_000))


def free_port() -> int:
    """A port that nothing listens on now, and that no other caller of this process has got lately."""
    for port in _ORDER:
        with suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError
