"""The store's log: one JSON line per build, appended and never changed. The newest carrier is its last line."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlops_deploy.errors import DeployError
from mlops_deploy.spec.refs import ContentId, Digest, ImageRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One build: when (ISO 8601, UTC), which model, what came out, under which tags, from which path."""

    time: str
    name: str
    digest: str
    content_id: str
    tags: tuple[str, ...]
    source: str


def append(path: Path, entry: Built) -> None:
    """Append a line and flush it; a torn line that a crash left behind is cut off first."""
    line = json.dumps(asdict(entry), separators=(",", ":")).encode() + b"\n"
    with path.open("a+b") as file:
        _cut_torn_line(file.fileno())
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> Iterator[Built]:
    """Yield the builds, oldest first; a torn last line is not there."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise DeployError(
            f"the store's log `{path}` cannot be read: {(error.strerror or '').lower()}",
            hint="make it a file that you may read, or name another store",
        ) from error
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    for number, line in enumerate(lines, 1):
        try:
            yield _entry(json.loads(line))
        except (ValueError, LookupError, TypeError, AttributeError, DeployError) as error:
            raise DeployError(
                f"line {number} of the store's log `{path}` cannot be read",
                hint="restore the file, or remove the line: the next build of that model writes it again",
            ) from error


def _entry(fields: dict[str, Any]) -> Built:
    """Raise one of the errors that `read` names for anything but a build."""
    ContentId(fields["content_id"])
    Digest.parse(fields["digest"])
    tags = tuple(str(ImageRef.parse(tag)) for tag in fields["tags"])
    return Built(**{**fields, "tags": tags})


def _cut_torn_line(descriptor: int) -> None:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    kept = end
    while kept and os.pread(descriptor, 1, kept - 1) != b"\n":
        kept -= 1
    if kept < end:
        os.ftruncate(descriptor, kept)
