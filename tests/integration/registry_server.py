"""Debian's `docker-registry` on a free loopback port, for as long as a test needs it."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.ports import free_port


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryServer:
    """A running registry: `host:port`, the folder of its storage, the file with what it logs, its process id."""

    host: str
    folder: Path
    log: Path
    pid: int

    def blobs(self) -> set[str]:
        """The digests of all that it has stored."""
        found = self.folder.glob("docker/registry/v2/blobs/sha256/??/*/data")
        return {f"sha256:{path.parent.name}" for path in found}

    def tags(self, repository: str) -> set[str]:
        """The tags of a repository."""
        return {
            path.name for path in self.folder.glob(f"docker/registry/v2/repositories/{repository}/_manifests/tags/*")
        }


@contextmanager
def registry_server(
    folder: Path,
    *,
    htpasswd: Path | None = None,
    tls: tuple[Path, Path] | None = None,
    client_ca: Path | None = None,
    port: int | None = None,
    address: str = "127.0.0.1",
) -> Iterator[RegistryServer]:
    """Meanwhile it answers at `address`, its storage in `folder`.

    `htpasswd`: a file with bcrypt hashes; `tls`: certificate and key.
    """
    program = shutil.which("docker-registry")
    assert program is not None, "no docker-registry on this machine"
    number = free_port() if port is None else port
    folder.mkdir(parents=True, exist_ok=True)
    config, log = folder / "registry.json", folder / "registry.log"
    # JSON is YAML.
    config.write_text(json.dumps(_config(folder, f"{address}:{number}", htpasswd, tls, client_ca)))
    with log.open("ab") as out:
        process = subprocess.Popen([program, "serve", str(config)], stdout=out, stderr=subprocess.STDOUT)
    try:
        _wait(process, (address, number), log)
        yield RegistryServer(host=f"{address}:{number}", folder=folder / "data", log=log, pid=process.pid)
    finally:
        process.terminate()
        process.wait(20)


def _config(
    folder: Path, address: str, htpasswd: Path | None, tls: tuple[Path, Path] | None, client_ca: Path | None
) -> dict[str, object]:
    http: dict[str, object] = {"addr": address}
    if tls is not None:
        http["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
        if client_ca is not None:
            http["tls"]["clientcas"] = [str(client_ca)]  # type: ignore[index]
    config: dict[str, object] = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": http,
        "log": {"level": "error"},
    }
    if htpasswd is not None:
        config["auth"] = {"htpasswd": {"realm": "registry", "path": str(htpasswd)}}
    return config


def _wait(process: subprocess.Popen[bytes], address: tuple[str, int], log: Path) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        with suppress(OSError), socket.create_connection(address, timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError("the registry does not listen")
