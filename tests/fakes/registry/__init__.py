"""A registry of the OCI distribution specification 1.1 over real sockets, that can be told to misbehave."""

from tests.fakes.registry.faults import (
    Answers,
    Bomb,
    Corrupts,
    CutsAnswer,
    CutsRequest,
    Drips,
    Endless,
    Fault,
    Header,
    Loses,
    Stalls,
    TooLarge,
    WrongSize,
)
from tests.fakes.registry.messages import Asked
from tests.fakes.registry.personality import Personality, cloud, distribution
from tests.fakes.registry.server import FakeRegistry

__all__ = [
    "Answers", "Asked", "Bomb", "Corrupts", "CutsAnswer", "CutsRequest", "Drips", "Endless", "FakeRegistry", "Fault",
    "Header", "Loses", "Personality", "Stalls", "TooLarge", "WrongSize", "cloud", "distribution",
]  # fmt: skip
