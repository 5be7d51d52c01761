"""Certificates of a test's own for an agent's API, made by openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = "IP:127.0.0.1,DNS:localhost"
ELSEWHERE: Final = "DNS:nomad.elsewhere.example"
"""The wrong name: whoever verifies it as 127.0.0.1 must refuse."""

_SECTION: Final = """
tls {{
  http                = true
  verify_https_client = true
  ca_file   = "{folder}/ca.pem"
  cert_file = "{folder}/server.pem"
  key_file  = "{folder}/server-key.pem"
}}
"""


@dataclass
class Certificates:
    """An authority, a server that it vouches for under `names`, and a client; all in one folder."""

    folder: Path
    names: str = HERE

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        _openssl(
            "req", "-x509", *_key(self.folder / "ca-key.pem"), "-subj=/CN=Test Authority", "-days=2",
            "-addext=basicConstraints=critical,CA:TRUE", "-addext=keyUsage=critical,keyCertSign",
            f"-out={self.authority}",
        )  # fmt: skip
        self._sign("server", f"subjectAltName={self.names}", "extendedKeyUsage=serverAuth,clientAuth")
        self._sign("client", "subjectAltName=DNS:client.test", "extendedKeyUsage=clientAuth")

    @property
    def authority(self) -> Path:
        """The certificate that vouches for the others."""
        return self.folder / "ca.pem"

    @property
    def client(self) -> tuple[Path, Path]:
        """A client's certificate and key."""
        return self.folder / "client.pem", self.folder / "client-key.pem"

    @property
    def section(self) -> str:
        """What the agent's configuration says."""
        return _SECTION.format(folder=self.folder)

    @property
    def variables(self) -> dict[str, str]:
        """What a client's environment says."""
        certificate, key = map(str, self.client)
        return {"NOMAD_CACERT": str(self.authority), "NOMAD_CLIENT_CERT": certificate, "NOMAD_CLIENT_KEY": key}

    def _sign(self, name: str, *extensions: str) -> None:
        made = self.folder / f"{name}.pem"
        authority = (f"-CA={self.authority}", f"-CAkey={self.folder / 'ca-key.pem'}")
        added = [f"-addext={one}" for one in ("basicConstraints=critical,CA:FALSE", *extensions)]
        key = _key(self.folder / f"{name}-key.pem")
        _openssl("req", "-x509", *key, f"-subj=/CN={name}", "-days=2", *added, *authority, f"-out={made}")


def _key(path: Path) -> tuple[str, ...]:
    return ("-newkey=ec", "-pkeyopt=ec_paramgen_curve:P-256", "-nodes", f"-keyout={path}")


def _openssl(*arguments: str) -> None:
    split = [part for one in arguments for part in one.split("=", 1)]
    done = subprocess.run(["openssl", *split], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
