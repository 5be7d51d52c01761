"""How the server ends on a signal: cleanly, with exit code 0, told apart from any other `sys.exit`."""

import signal


class Signalled(SystemExit):
    """SIGTERM or SIGINT came."""


def end_on_signals() -> None:
    """Raise `Signalled`, which ends the program with 0, in the main thread when a signal comes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def _end(*_: object) -> None:
    raise Signalled(0)
