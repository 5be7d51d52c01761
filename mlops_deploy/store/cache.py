"""What was read once need not be read again: file → sha256, and layer content → digest, kept in `.mlops/cache`.

A cache may be lost or deleted at any time; then the next build reads the model once more.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from mlops_deploy.oci.inventory import SourceFile
from mlops_deploy.oci.packing import LayerPlan
from mlops_deploy.oci.tar import REVISION
from mlops_deploy.oci.types import LAYER, Descriptor
from mlops_deploy.spec.refs import Digest

_SETTLED_NS: Final = 100_000_000
_COARSE_NS: Final = 2_000_000_000
_SCHEMA: Final = """
create table if not exists file (
  source text primary key, device int, inode int, size int, mtime int, ctime int, sha256 text
) without rowid;
create table if not exists layer (content text primary key, digest text) without rowid;
"""


class DigestCache:
    """Digests by file identity and by layer content. `path` is a file; where it cannot be written nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def known(self, files: Sequence[SourceFile]) -> dict[str, str]:
        """The sha256 of those files, by their path in the model, whose stamp is the one that was kept."""
        if self._path is None or not self._path.exists():
            return {}
        with suppress(sqlite3.Error), closing(self._connect(self._path)) as database:
            rows = database.execute("select source, device, inode, size, mtime, ctime, sha256 from file")
            kept = {source: (stamp, found) for source, *stamp, found in rows}
            return {file.path: kept[file.source][1] for file in files if _same(kept.get(file.source), file)}
        return {}

    def layer(self, plan: LayerPlan, sums: Mapping[str, str]) -> Descriptor | None:
        """The descriptor of a layer all of whose files are in `sums`; None when it has never been made."""
        content = _content(plan, sums)
        if self._path is None or content is None or not self._path.exists():
            return None
        with suppress(sqlite3.Error), closing(self._connect(self._path)) as database:
            row = database.execute("select digest from layer where content = ?", (content,)).fetchone()
            return Descriptor(media_type=LAYER, digest=Digest(row[0]), size=plan.size) if row else None
        return None

    def remember(
        self,
        files: Iterable[SourceFile],
        layers: Iterable[tuple[LayerPlan, Descriptor]],
        sums: Mapping[str, str],
        now_ns: int,
    ) -> None:
        """Keep what a build learned; files touched a moment before `now_ns` are left out.

        A write within the resolution of a file's times could leave them as they are: such a file is read again.
        """
        if self._path is None:
            return
        rows = [_row(file, sums[file.path]) for file in files if _settled(file, now_ns)]
        with suppress(sqlite3.Error, OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect(self._path)) as database, database:
                database.executemany("insert or replace into file values (?, ?, ?, ?, ?, ?, ?)", rows)
                contents = [(_content(plan, sums), descriptor.digest.hex) for plan, descriptor in layers]
                database.executemany("insert or replace into layer values (?, ?)", contents)

    def _connect(self, path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(path, timeout=5)
        try:
            database.executescript(_SCHEMA)
        except sqlite3.DatabaseError:
            database.close()
            path.unlink(missing_ok=True)
            raise
        return database


def _same(kept: tuple[list[int], str] | None, file: SourceFile) -> bool:
    stamp = file.stamp
    seen = [stamp.device, stamp.inode, stamp.size, stamp.mtime_ns, stamp.ctime_ns]
    return kept is not None and kept[0] == seen


def _row(file: SourceFile, digest: str) -> tuple[str | int, ...]:
    stamp = file.stamp
    return (file.source, stamp.device, stamp.inode, stamp.size, stamp.mtime_ns, stamp.ctime_ns, digest)


def _settled(file: SourceFile, now_ns: int) -> bool:
    coarse = file.stamp.ctime_ns % 1_000_000_000 == 0
    return now_ns - file.stamp.ctime_ns > (_COARSE_NS if coarse else _SETTLED_NS)


def _content(plan: LayerPlan, sums: Mapping[str, str]) -> str | None:
    digest = sha256(b"%d\n" % REVISION)
    for file in plan.files:
        if file.path not in sums:
            return None
        digest.update(f"{sums[file.path]} {file.size} {file.path}\n".encode())
    return digest.hexdigest()
