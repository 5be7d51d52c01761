"""Who asks, as other people will read it in a lease, a journal, a freeze."""

import getpass
import os
import re
import socket
from collections.abc import Mapping
from uuid import uuid4

from mlops_deploy.release.lease import Holder


def this_holder(environ: Mapping[str, str]) -> Holder:
    """`user@machine` of this process, told from every other one, with the address of the CI run it belongs to."""
    name = f"{_user(environ)}@{socket.gethostname().partition('.')[0]}"
    return Holder(name=name, nonce=uuid4().hex, url=_run(environ))


def _user(environ: Mapping[str, str]) -> str:
    who = environ.get("GITHUB_ACTOR") or environ.get("GITLAB_USER_LOGIN")
    if who is None:
        try:
            who = getpass.getuser()
        except (KeyError, OSError):  # a user id without an account, as in many containers
            who = str(os.getuid())
    return re.sub(r"[^\w.+-]", "-", who)


def _run(environ: Mapping[str, str]) -> str | None:
    """Where people can read the CI run: GitHub's and GitLab's own variables."""
    if url := environ.get("CI_JOB_URL"):
        return url
    parts = [environ.get(name) for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else None
