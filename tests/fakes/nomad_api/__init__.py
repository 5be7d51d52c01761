"""A Nomad API of a test's own: real HTTP over a real socket, and as much of Nomad behind it as the product asks for.

`tests/contract` holds it to what a real agent does.
"""

from tests.fakes.nomad_api.server import NomadApi
from tests.fakes.nomad_api.state import Grant

__all__ = ["Grant", "NomadApi"]
