"""What was read once need not be read again: file → sha256 and what it says of itself, layer content → digest.

Kept in `.mlops/cache`.

A cache may be lost, damaged or deleted at any time; then the next build reads the model once more.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mlops_deploy.errors import DeployError
from mlops_deploy.oci.inventory import SourceFile
from mlops_deploy.oci.packing import LayerPlan
from mlops_deploy.oci.tar import REVISION
from mlops_deploy.oci.types import LAYER, Descriptor
from mlops_deploy.spec.refs import Digest
from mlops_deploy.spec.requires import Sniffed

_SETTLED_NS: Final = 100_000_000
_COARSE_NS: Final = 2_000_000_000
_SCHEMA: Final = """
create table if not exists file (source blob primary key, stamp text, sha256 text) without rowid;
create table if not exists said (
    source blob, name blob, stamp text, revision integer, said text, primary key (source, name)
) without rowid;
create table if not exists layer (content text primary key, digest text) without rowid;
create table if not exists holder (digest text, repository text, primary key (digest, repository));
"""


_FILE: Final = "select sha256 from file where source = ? and stamp = ?"
_STAMP: Final = "select stamp from file where source = ?"
_HOLDERS: Final = "select repository from holder where digest = ? order by rowid desc"
_SAID: Final = "select said from said where source = ? and name = ? and stamp = ? and revision = ?"


class DigestCache:
    """Digests by file identity and by layer content. `path` is a file; where it cannot be written nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def known(self, files: Sequence[SourceFile]) -> dict[str, str]:
        """The sha256 of those files, by their path in the model, whose stamp is the one that was kept."""
        with self._forgiving(), self._reading() as database:
            rows = ((file.path, database.execute(_FILE, (_source(file), _stamp(file))).fetchone()) for file in files)
            return {path: row[0] for path, row in rows if row}
        return {}

    def written(self, files: Sequence[SourceFile]) -> frozenset[str]:
        """Those of the files, by their path in the model, that were written to where they are since they were kept."""
        with self._forgiving(), self._reading() as database:
            rows = ((file, database.execute(_STAMP, (_source(file),)).fetchone()) for file in files)
            pairs = ((file.path, row[0].split(), _stamp(file).split()) for file, row in rows if row)
            return frozenset(path for path, old, new in pairs if old[:2] == new[:2] and old[3] != new[3])
        return frozenset()

    def facts(self, files: Sequence[SourceFile], revision: int) -> dict[str, Sniffed]:
        """What those files, by their path in the model, say of themselves to readers of that revision.

        That depends on their names, too, and links give one file several.
        """
        with self._forgiving(), self._reading() as database:
            keys = ((file.path, (_source(file), _name(file.path), _stamp(file), revision)) for file in files)
            rows = ((path, database.execute(_SAID, key).fetchone()) for path, key in keys)
            return {path: _sniffed(row[0]) for path, row in rows if row}
        return {}

    def layers(self, plans: Sequence[LayerPlan], sums: Mapping[str, str]) -> list[Descriptor | None]:
        """The descriptor of each layer all of whose files are in `sums`; None for one that has never been made."""
        with self._forgiving(), self._reading() as database:
            return [_layer(database, plan, _content(plan, sums)) for plan in plans]
        return [None] * len(plans)

    def holders(self, layer: Descriptor) -> tuple[str, ...]:
        """The repositories that got that layer from here, the last one first."""
        with self._forgiving(), self._reading() as database:
            return tuple(name for (name,) in database.execute(_HOLDERS, (layer.digest.hex,)))
        return ()

    def hold(self, repository: str, layers: Iterable[Descriptor]) -> None:
        """Keep that `repository` has these layers."""
        with self._forgiving(), self._writing() as database, database:
            rows = [(layer.digest.hex, repository) for layer in layers]
            database.executemany("insert or replace into holder values (?, ?)", rows)

    def remember(
        self,
        files: Sequence[SourceFile],
        layers: Iterable[tuple[LayerPlan, Descriptor]],
        sums: Mapping[str, str],
        seen_ns: int,
        *,
        facts: Mapping[str, Sniffed] = MappingProxyType({}),
        revision: int = 0,
    ) -> None:
        """Keep what a build learned; `seen_ns` is a time before it looked at any file, `revision` that of `facts`.

        A write within the resolution of a file's times could leave them as they are, so what had been touched only a
        moment before it was looked at is left out, and read again by the next build.
        """
        with self._forgiving(), self._writing() as database, database:
            settled = [file for file in files if _settled(file, seen_ns)]
            rows = ((_source(file), _stamp(file), sums[file.path]) for file in settled)
            database.executemany("insert or replace into file values (?, ?, ?)", rows)
            told = (
                (_source(file), _name(file.path), _stamp(file), revision, _said(facts[file.path]))
                for file in settled
                if file.path in facts
            )
            database.executemany("insert or replace into said values (?, ?, ?, ?, ?)", told)
            contents = [(_content(plan, sums), descriptor.digest.hex) for plan, descriptor in layers]
            database.executemany("insert or replace into layer values (?, ?)", contents)

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        """Without a cache, with a damaged one, or where it cannot be written, the model is read: no reason to fail."""
        try:
            yield
        except (sqlite3.OperationalError, OSError):
            pass  # absent, locked, read-only, or the disk is full
        except (sqlite3.Error, DeployError, ValueError, TypeError, AttributeError, IndexError):
            with suppress(OSError):
                (self._path or Path()).unlink()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if self._path is None:
            raise FileNotFoundError
        with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as database:
            database.execute("begin")  # once: each of very many questions would begin and end a transaction of its own
            yield database

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if self._path is None:
            raise FileNotFoundError
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=5)) as database:
            database.executescript(_SCHEMA)
            yield database


def _name(path: str) -> bytes:
    return os.fsencode(path.rpartition("/")[2])


def _said(sniffed: Sniffed) -> str:
    return json.dumps([sniffed.format, sniffed.damaged, *sniffed.requires])


@lru_cache(maxsize=64)
def _sniffed(said: str) -> Sniffed:
    form, damaged, *requires = json.loads(said)
    return Sniffed(format=form, requires=tuple(requires), damaged=damaged)


def _source(file: SourceFile) -> bytes:
    return os.fsencode(file.source)


def _stamp(file: SourceFile) -> str:
    stamp = file.stamp
    return f"{stamp.device} {stamp.inode} {stamp.size} {stamp.mtime_ns} {stamp.ctime_ns}"


def _settled(file: SourceFile, seen_ns: int) -> bool:
    coarse = file.stamp.ctime_ns % 1_000_000_000 == 0
    return seen_ns - file.stamp.ctime_ns > (_COARSE_NS if coarse else _SETTLED_NS)


def _layer(database: sqlite3.Connection, plan: LayerPlan, content: str | None) -> Descriptor | None:
    row = database.execute("select digest from layer where content = ?", (content,)).fetchone()
    return Descriptor(media_type=LAYER, digest=Digest(row[0]), size=plan.size) if row else None


def _content(plan: LayerPlan, sums: Mapping[str, str]) -> str | None:
    digest = sha256(b"%d\n" % REVISION)
    for file in plan.files:
        if file.path not in sums:
            return None
        digest.update(f"{sums[file.path]} {file.size} {file.path}\n".encode())
    return digest.hexdigest()
