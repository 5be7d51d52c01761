"""The bootstrap of a slot without a container engine: `python -m mlops_deploy.cli.bootstrap STORE DIGEST FOLDER`.

Not a command for people: a slot's supervisor runs it, as a container engine runs a carrier. Its exit code is that of
the carrier's deploy.sh, its output what that said.
"""

import signal
import sys
from pathlib import Path
from typing import NoReturn

from mlops_deploy.errors import ContentMismatchError, DeployError

_TERMINATED = 143


def main(store: str, digest: str, folder: str) -> int:
    """Copy the model of the carrier `digest` to the volume `models` of `folder`, unless it is there; the exit code."""
    from mlops_deploy.api.bootstrap import DAMAGED, ScriptFailedError, place_model
    from mlops_deploy.cli import wiring
    from mlops_deploy.cli.console import PlainStory
    from mlops_deploy.store.layout import LayoutStore

    carriers = LayoutStore(Path(store))
    try:
        place_model(carriers, carriers.find(digest), Path(folder), wiring.runner(), PlainStory())
    except DeployError as failed:
        for line in (*failed.detail, f"error: {failed.message}", *((f"hint: {failed.hint}",) if failed.hint else ())):
            sys.stderr.write(f"{line}\n")
        match failed:
            case ScriptFailedError(code=code):
                return code
            case ContentMismatchError():
                return DAMAGED
            case _:
                return failed.exit_code
    return 0


def _end(*_: object) -> NoReturn:
    sys.exit(_TERMINATED)  # on the way out deploy.sh is ended, too


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(*sys.argv[1:]))
