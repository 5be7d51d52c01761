"""The state folder: one lock for all writers, and files that are old or new, never half."""

import fcntl
import json
import os
import re

from mlops_keeper.alarm import Within
from mlops_keeper.wrong import OverdueError, WrongError

LOCK_SECONDS = 5.0
"""How long a write may wait for others; each takes milliseconds, a reload of the proxy longer."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._/-]{0,199}")


def checked_name(name: str) -> str:
    """`name` as a file's name, `/` written as `%`; raise `WrongError` for one that no key and no journal may have."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise WrongError(
            "input", f"`{name[:80]}` is not a name: expected [a-z0-9][a-z0-9._/-]*, at most 200, without `..`"
        )
    return name.replace("/", "%")


class Folder:
    """Files below one root. Every failure of the system is `WrongError("state")` with its reason."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._lock = -1

    def path(self, name: str) -> str:
        """Where `name` is."""
        return os.path.join(self.root, name)

    def read(self, name: str) -> bytes | None:
        """What `name` holds, None when there is no such file."""
        try:
            with open(self.path(name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed(f"`{name}` cannot be read", error) from error

    def read_object(self, name: str) -> dict | None:
        """The JSON object in `name`."""
        data = self.read(name)
        if data is None:
            return None
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise WrongError("state", f"`{name}` in the state folder is damaged")
        return found

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Replace `name` as a whole; on return it also survives a power cut, if `durable`. The caller has the lock."""
        path = self.path(name)
        fresh = os.path.join(os.path.dirname(path), "." + os.path.basename(path) + ".new")
        try:
            with open(fresh, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.rename(fresh, path)
            if durable:
                self.flush_names(os.path.dirname(path))
        except OSError as error:
            _forget(fresh)
            raise _failed(f"`{name}` cannot be written", error) from error

    def flush_names(self, folder: str) -> None:
        """Make the names in `folder` survive a power cut."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def names(self, folder: str) -> list[str]:
        """The names of the whole files in `folder`, sorted."""
        try:
            return sorted(name for name in os.listdir(self.path(folder)) if not name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _failed(f"`{folder}` cannot be read", error) from error

    def __enter__(self) -> None:
        """Take the lock; `WrongError` when others do not let go in time."""
        try:
            if self._lock < 0:
                self._lock = os.open(self.path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with Within(LOCK_SECONDS):
                fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OverdueError as late:
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # it may have come with the alarm
            raise WrongError("silent", f"another keeper has held the state folder for {LOCK_SECONDS:g} s") from late
        except OSError as error:
            raise _failed("the state folder cannot be locked", error) from error

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_UN)


def _failed(what: str, error: OSError) -> WrongError:
    return WrongError("state", f"{what}: {(error.strerror or str(error)).lower()}")


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
