"""The one error family. Each class is one exit code; the CLI's boundary is the only place that prints them.

DeployError                  1    unexpected, or local I/O; nothing exposed
├── UnusableInputError       2    usage, configuration, a model or file that cannot be used
│   └── ConfigError          2    mistakes in a configuration file, each with its position
├── LockedError              3    another process holds what is needed, for longer than anybody waits
├── ConflictError            3    somebody else changed it since it was read
├── NeverReadyError          4    a server never became ready; nothing was exposed
├── NeedsHumanError          6    the state, or the way back, could not be confirmed
├── UnreachableError         8    engine, registry or target does not answer; a retry makes sense
├── RefusedError             9    a gate, a policy or the check of compatibility says no
├── ContentMismatchError    12    content does not verify
└── InterruptedByUserError 130    Ctrl-C or SIGTERM
"""

from collections.abc import Sequence


class DeployError(Exception):
    """Something a user can read and act on: a message, and a hint that names the next step.

    Messages are lower case, without a full stop, with names in back-ticks. `detail` holds lines that explain more
    (the output of a failed tool, say).
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, detail: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = tuple(detail)


class UnusableInputError(DeployError):
    """What was given cannot be used: an option, a file, a model, a reference."""

    exit_code = 2


class ConfigError(UnusableInputError):
    """Every mistake of one configuration file; `detail` holds the rendered issues, ready to print."""


class LockedError(DeployError):
    """Another process holds what is needed, and did not let go in time."""

    exit_code = 3


class ConflictError(DeployError):
    """Somebody else changed what was to be written since it was read; nothing was written."""

    exit_code = 3


class NeverReadyError(DeployError):
    """A server ended, or its time was over, before it answered as this very model; nothing was exposed."""

    exit_code = 4


class NeedsHumanError(DeployError):
    """The state of a service, or the way back, could not be confirmed; traffic stays as it was last committed."""

    exit_code = 6


class UnreachableError(DeployError):
    """An engine, a registry or a target does not answer."""

    exit_code = 8


class RefusedError(DeployError):
    """A gate, a policy or the check of compatibility says no; nothing was started."""

    exit_code = 9


class ContentMismatchError(DeployError):
    """Content is not what its digest, size or name says; `detail` lists every mismatch."""

    exit_code = 12


class InterruptedByUserError(DeployError):
    """The user, or the system, asked to stop; nothing half-written was left."""

    exit_code = 130
