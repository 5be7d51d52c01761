"""Credential helpers: `docker-credential-NAME get`, which reads a server's name and prints who we are there."""

import json
import re
from typing import Final

from mlops_deploy.adapters.process import OverdueError
from mlops_deploy.adapters.registry.identity import Identity, identity_of
from mlops_deploy.errors import UnreachableError
from mlops_deploy.ports import Completed, Runner

_SECONDS: Final = 10.0
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_UNKNOWN: Final = "credentials not found in native keychain"
"""What every helper prints, by the protocol, for a server that it does not know."""


class HelperError(Exception):
    """A helper gave no answer that can be used; the text says which and why, and nothing of what it printed."""


def ask_helper(name: str, server: str, runner: Runner) -> Identity | None:
    """Who we are at `server` by the helper `name`; None when it knows nothing of it. Takes 10 seconds at most."""
    if not _NAME.fullmatch(name):
        raise HelperError("a credential helper has a name that is none")
    program = f"docker-credential-{name}"
    try:
        done = runner.run((program, "get"), stdin=[server.encode()], timeout=_SECONDS)
    except OverdueError:
        raise HelperError(f"the credential helper `{program}` did not answer in {_SECONDS:g} s") from None
    except UnreachableError:
        raise HelperError(f"the credential helper `{program}` cannot be run") from None
    return _answer(program, done, server)


def _answer(program: str, done: Completed, server: str) -> Identity | None:
    if done.code != 0:
        if done.out.strip() == _UNKNOWN:
            return None
        raise HelperError(f"the credential helper `{program}` ended with {done.code}")
    try:
        said = json.loads(done.out)
    except (ValueError, RecursionError):
        raise HelperError(f"the credential helper `{program}` printed what is no answer") from None
    match said:
        case {"Username": str(user), "Secret": str(secret)}:
            return identity_of(user, secret, f"`{program}` for `{server}`") if secret else None
        case _:
            raise HelperError(f"the credential helper `{program}` printed what is no answer")
