"""`mlops-deploy`, and `python -m mlops_deploy`: quiet under Ctrl-C also while the command line itself is loaded."""

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; the process ends with an exit code of the published table."""
    _guard()
    from mlops_deploy.cli.main import run  # noqa: PLC0415 - what takes time is loaded under the guard

    code = run()
    # Nothing is left to be interrupted, so a late signal must not show a traceback of the interpreter's own end, nor
    # change the exit code once the last thread is through.
    _guard()
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _guard() -> None:
    # A parent that wants Ctrl-C ignored, as a shell does for `command &`, has its way.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)


def _end(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the signature of a handler
    # Not by an exception: in a callback of the import system that would be shown and forgotten.
    with suppress(OSError):
        os.write(2, b"error: interrupted; nothing half-written was left\n")
    os._exit(130)


if __name__ == "__main__":
    main()
