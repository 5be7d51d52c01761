"""`python -m mlops_server.provides`: what this environment provides, as one JSON object on one line.

A hook is loaded for it: one that cannot be, fails here, when the image is built, and not when it is started.
"""

import json
import os
import platform
import sys
from importlib import metadata
from typing import Any

from mlops_server.formats import FORMATS
from mlops_server.hook import HookError, load_hook

PROTOCOLS = ("v2-rest", "v2-grpc")


def provides() -> dict[str, Any]:
    """Operating system, Python, server, protocols, formats, and every installed package with its version."""
    system = platform.freedesktop_os_release()
    packages = {dist.metadata["Name"].lower().replace("_", "-"): dist.version for dist in metadata.distributions()}
    return {
        "os": {"id": system["ID"], "version": system.get("VERSION_ID", ""), "libc": " ".join(platform.libc_ver())},
        "platform": f"{sys.platform}/{platform.machine()}",
        "python": platform.python_version(),
        "runtime": {"name": "kserve", "version": packages["kserve"]},
        "protocols": list(PROTOCOLS),
        "formats": list(FORMATS),
        "hook": load_hook(os.environ.get("HOOK")).steps,
        "packages": dict(sorted(packages.items())),
    }


def main() -> int:
    """Print the one line."""
    try:
        sys.stdout.write(json.dumps(provides(), separators=(",", ":")) + "\n")
    except HookError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
