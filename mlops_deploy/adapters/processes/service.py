"""The folder of one service without a container engine: whose it is, and on which ports its slots listen."""

import json
import shutil
import socket
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.partial import reporting
from mlops_deploy.release.codec import decode, encode
from mlops_deploy.release.state import Slot
from mlops_deploy.spec.owner import Owner
from mlops_deploy.store.files import locked, replace_file, unheard

LOOPBACK: Final = "127.0.0.1"

_FILE: Final = "service.json"
_LOCK: Final = "service.lock"
_PARTIAL: Final = ".mlops-deploy-"
_PATIENCE: Final = 20.0
_PORTS: Final = range(20_000, 32_000)
"""Below the ports that Linux gives to outgoing connections, which would take a slot's port while it is down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Whose the folder is; `a` and `b` are the ports of the slots."""

    service: str
    environment: str | None
    a: int
    b: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalService:
    """A service and its folder."""

    owner: Owner
    path: Path

    def address(self, slot: Slot) -> tuple[str, int]:
        """Where `slot` listens; chosen, with the folder made, when it is asked for the first time."""
        known = self.require_ours() or self._make()
        return LOOPBACK, known.b if slot == "b" else known.a

    def require_ours(self) -> Known | None:
        """What is known of the service, None before the first time; `UnusableInputError` for another one's folder."""
        known = _read(self.path) or self._read_again()
        if known is not None and (known.service, known.environment) != (self.owner.service, self.owner.environment):
            env = f" in environment `{known.environment}`" if known.environment else ""
            raise foreign(self.path, f"it belongs to the service `{known.service}`{env}")
        return known

    def forget(self) -> None:
        """Remove the folder."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.path)

    def _read_again(self) -> Known | None:
        """What is known now: another process may have written it just before it wrote what is found here."""
        if not strangers(self.path, _LOCK):
            return None
        known = _read(self.path)
        if known is None:
            raise foreign(self.path, f"it has no `{_FILE}`")
        return known

    def _make(self) -> Known:
        with reporting(f"`{self.path}`"):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            # One lock for all services, so that no two choose the same port.
            with locked(self.path.parent / _LOCK, "choosing ports", deadline=_PATIENCE, tell=unheard):
                if (known := self.require_ours()) is not None:
                    return known
                a, b, *_ = self._free_ports()
                known = Known(service=self.owner.service, environment=self.owner.environment, a=a, b=b)
                replace_file(self.path / _FILE, json.dumps(encode(known)).encode())
                return known

    def _free_ports(self) -> list[int]:
        """Two ports that nobody listens on and no other service has, the same for the same name where they are free."""
        others = {port for path in self.path.parent.iterdir() for port in _ports(path)}
        start = zlib.crc32(self.owner.project.encode()) % len(_PORTS)
        ports = (port for port in (*_PORTS[start:], *_PORTS[:start]) if port not in others and is_free(port))
        return [port for port, _ in zip(ports, range(2), strict=False)]


def is_free(port: int) -> bool:
    """Whether nobody listens on `port` of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError:
            return False
    return True


def strangers(path: Path, *ours: str) -> list[str]:
    """The names in a folder that are neither `ours` nor files that are being written, or were when we were killed."""
    try:
        return sorted(one.name for one in path.iterdir() if one.name not in ours and not one.name.startswith(_PARTIAL))
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise foreign(path, "it is no folder") from error


def foreign(path: Path, why: str) -> UnusableInputError:
    """What is said of a thing of our name that is not ours."""
    return UnusableInputError(f"`{path}` is in the way: {why}", hint="it was not touched; move it away, then repeat")


def _ports(path: Path) -> Iterator[int]:
    with suppress(UnusableInputError):
        if (known := _read(path)) is not None:
            yield from (known.a, known.b)


def _read(path: Path) -> Known | None:
    try:
        return decode(Known, json.loads((path / _FILE).read_bytes()))
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise foreign(path, "it is no folder") from error
    except (ValueError, RecursionError, UnusableInputError) as error:
        raise foreign(path, f"`{_FILE}` is none of ours") from error
