"""The platform of this machine, in the names that images have for it."""

import platform
import sys
from typing import Final

from mlops_deploy.oci.types import Platform

_IN_GO: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def this_platform() -> Platform:
    """What runs here: `linux/amd64`, say."""
    machine = platform.machine()
    return Platform(sys.platform, _IN_GO.get(machine, machine))
