"""The bootstrap that pulls: `python -m mlops_deploy.cli.puller`, in its image or beside a slot without an engine.

Not a command for people, for whom there is `mlops-deploy pull`: a job runs it, its settings are in the environment.
`MODEL_REF` is the carrier as `REGISTRY/NAME@sha256:…`, `MODEL_ID` the content that the job asks for, `MODEL_VOLUME` the
folder to fill. What it says and its exit codes are deploy.sh's, and 75 for a registry that does not answer.
"""

import os
import signal
import sys
from collections.abc import Mapping
from typing import Final, NoReturn

from mlops_deploy.errors import ContentMismatchError, DeployError, UnreachableError, UnusableInputError

DAMAGED: Final = 65
VOLUME_FAILS: Final = 74
UNREACHABLE: Final = 75
WRONG_SETTING: Final = 78
TERMINATED: Final = 143


class Lines:
    """A `Story` as plain lines, as a log of a task has them."""

    def say(self, text: str) -> None:
        """See `ports.Story`."""
        sys.stderr.write(f"{text}\n")

    def warn(self, text: str) -> None:
        """See `ports.Story`."""
        sys.stderr.write(f"warning: {text}\n")

    def progress(self, label: str, done: int, total: int) -> None:
        """See `ports.Story`; nobody watches."""


def main() -> int:
    """Bring the model into the volume, unless it is there; the exit code."""
    signal.signal(signal.SIGTERM, _end)
    try:
        _pull(os.environ)
    except DeployError as failed:
        code = exit_code(failed)
        hints = [failed.hint] if failed.hint else []
        if code in {UNREACHABLE, WRONG_SETTING}:
            hints.append("what this task is given for a registry is in `registry` of mlops.yml")
        for line in (*failed.detail, f"error: {failed.message}", *(f"hint: {hint}" for hint in hints)):
            sys.stderr.write(f"{line}\n")
        return code
    except OSError as failed:
        sys.stderr.write(f"error: `{failed.filename or 'the volume'}`: {(failed.strerror or str(failed)).lower()}\n")
        return exit_code(failed)
    return 0


def exit_code(failed: DeployError | OSError) -> int:
    """What the task ends with; an error that has a number of deploy.sh's own keeps it."""
    match failed:
        case DeployError() if isinstance(code := getattr(failed, "code", None), int):
            return code
        case ContentMismatchError():
            return DAMAGED
        case UnreachableError():
            return UNREACHABLE
        case UnusableInputError():
            return WRONG_SETTING
        case OSError():
            return VOLUME_FAILS
        case _:
            return failed.exit_code


def _pull(environ: Mapping[str, str]) -> None:
    from pathlib import Path

    from mlops_deploy.adapters.process import LocalRunner
    from mlops_deploy.adapters.registry.registries import HttpRegistries
    from mlops_deploy.api.pull import pull
    from mlops_deploy.spec.refs import ContentId, ImageRef

    ref = ImageRef.parse(_setting(environ, "MODEL_REF"))
    if ref.digest is None or ref.host is None:
        raise UnusableInputError(f"MODEL_REF is `{ref}`", hint="expected `REGISTRY/NAME@sha256:…`")
    volume = Path(_setting(environ, "MODEL_VOLUME"))
    if not volume.is_absolute():
        raise UnusableInputError(f"MODEL_VOLUME must be an absolute path, not `{volume}`")
    content = ContentId(_setting(environ, "MODEL_ID"))
    if (verify := environ.get("MODEL_VERIFY", "")) not in {"", "always"}:
        raise UnusableInputError(f"MODEL_VERIFY knows only `always`, not `{verify}`")
    registries = HttpRegistries(environ, LocalRunner())
    pulled = pull(ref, volume, registries, Lines(), content_id=content, rehash=verify == "always")
    sys.stdout.write(f"{pulled.line}\n")


def _setting(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise UnusableInputError(f"{name} is not set", hint="a job of `bootstrap: pull` sets it")
    return value


def _end(*_: object) -> NoReturn:
    sys.exit(TERMINATED)  # on the way out what is half-written is put away


if __name__ == "__main__":
    sys.exit(main())
