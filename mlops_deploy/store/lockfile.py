"""`mlops.lock`: inputs that are not the user's own files, pinned by sha256. Committed beside `mlops.yml`."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.partial import reporting
from mlops_deploy.oci.shell import Shell
from mlops_deploy.oci.types import Platform
from mlops_deploy.spec.refs import Digest, ImageRef
from mlops_deploy.store.files import replace_file

_SHELLS: Final = "shells"
_SOURCES: Final = "sources"
_HEX64: Final = re.compile(r"[0-9a-f]{64}")


def pinned_shells(path: Path) -> Mapping[Platform, Digest]:
    """The shells that the lock pins, by platform; none where there is no lock."""
    try:
        shells = _read(path).get(_SHELLS, {})
        return {Platform.parse(name): Digest.parse(entry["digest"]) for name, entry in shells.items()}
    except (KeyError, TypeError, AttributeError, UnusableInputError) as error:
        raise _no_lock(path) from error


def pin_shells(path: Path, shells: Iterable[Shell]) -> None:
    """Pin these shells and no other; the file is written only when that changes it."""
    _write(path, _SHELLS, {str(shell.platform): _entry(shell) for shell in shells})


def pinned_images(path: Path) -> tuple[ImageRef, ...]:
    """The images, each with its digest, that the pinned shells are in, all of them; none where one was a file."""
    try:
        entries = _read(path).get(_SHELLS, {}).values()
        found = [entry.get("image") for entry in entries]
        images = tuple(dict.fromkeys(ImageRef.parse(image) for image in found if image is not None))
    except (TypeError, AttributeError, UnusableInputError) as error:
        raise _no_lock(path) from error
    if any(image.digest is None for image in images):
        raise _no_lock(path)
    return () if None in found else images


def _entry(shell: Shell) -> dict[str, str]:
    image = {} if shell.image is None else {"image": str(shell.image)}
    return {"digest": str(shell.digest), **image}


def pinned_source(path: Path, url: str) -> str | None:
    """The sha256, in hex, that the lock pins for the file behind `url`; None where it pins none."""
    try:
        found = _read(path).get(_SOURCES, {}).get(url, {}).get("sha256")
    except AttributeError as error:
        raise _no_lock(path) from error
    if found is not None and not (isinstance(found, str) and _HEX64.fullmatch(found)):
        raise _no_lock(path)
    return found


def pin_source(path: Path, url: str, sha256: str) -> None:
    """Pin the file behind `url`, and no other; the file is written only when that changes it."""
    _write(path, _SOURCES, {url: {"sha256": sha256}})


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _no_lock(path) from error
    if not isinstance(found, dict) or not found.keys() & {_SHELLS, _SOURCES}:
        raise _no_lock(path)
    lock: dict[str, Any] = found
    if not all(isinstance(lock.get(part, {}), dict) for part in (_SHELLS, _SOURCES)):
        raise _no_lock(path)
    return lock


def _write(path: Path, part: str, pinned: Mapping[str, object]) -> None:
    before = _read(path)
    if before.get(part) == pinned:
        return
    data = json.dumps(before | {part: pinned}, indent=2, sort_keys=True).encode() + b"\n"
    with reporting(f"the lock file `{path}`"):
        replace_file(path, data)


def _no_lock(path: Path) -> UnusableInputError:
    return UnusableInputError(
        f"`{path}` is not a lock file of mlops-deploy",
        hint="restore it from version control, or remove it: the next build writes it again",
    )
