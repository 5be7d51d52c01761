"""`mlops.lock`: inputs that are not the user's own files, pinned by sha256. Committed beside `mlops.yml`."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.partial import reporting
from mlops_deploy.oci.shell import Shell
from mlops_deploy.oci.types import Platform
from mlops_deploy.spec.refs import Digest
from mlops_deploy.store.files import replace_file


def pinned_shells(path: Path) -> Mapping[Platform, Digest]:
    """The shells that the lock pins, by platform; none where there is no lock."""
    try:
        shells = json.loads(path.read_bytes())["shells"]
        return {Platform.parse(name): Digest.parse(entry["digest"]) for name, entry in shells.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UnusableInputError) as error:
        raise UnusableInputError(
            f"`{path}` is not a lock file of mlops-deploy",
            hint="restore it from version control, or remove it: the next build writes it again",
        ) from error


def pin_shells(path: Path, shells: Iterable[Shell]) -> None:
    """Pin these shells, and nothing else; the file is written only when that changes it."""
    pinned = {str(shell.platform): {"digest": str(shell.digest)} for shell in shells}
    data = json.dumps({"shells": pinned}, indent=2, sort_keys=True).encode() + b"\n"
    with reporting(f"the lock file `{path}`"):
        if not path.exists() or path.read_bytes() != data:
            replace_file(path, data)
