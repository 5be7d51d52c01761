"""Whom we believe: certificates.

The system's authorities, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name; with them, for one registry, what lies
in the first of these folders that exists, as docker and podman read them: `~/.config/containers/certs.d/HOST:PORT`,
`/etc/containers/certs.d/HOST:PORT`, `/etc/docker/certs.d/HOST:PORT`. There `*.crt` are authorities, and each
`NAME.cert` with its `NAME.key` shows the registry who we are.
"""

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from mlops_deploy.errors import UnreachableError, UnusableInputError

_SYSTEM: Final = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))


class UntrustedError(UnreachableError):
    """Theirs or ours is no certificate that the other believes, or there is no TLS; asking again does not help."""


class Trust:
    """Certificates for the registry that references call `registry`, and for the hosts that it sends us to."""

    def __init__(self, registry: str, environ: Mapping[str, str], system: Sequence[Path] = _SYSTEM) -> None:
        self._registry = registry
        self._environ = environ
        home = environ.get("HOME")
        self._roots = (*([Path(home, ".config/containers/certs.d")] if home else []), *system)

    def context(self, name: str, *, verified: bool) -> ssl.SSLContext:
        """How to speak TLS with `name`, `HOST` or `HOST:PORT`.

        The registry's authorities vouch for the hosts that it names too; its client's certificate is for it alone.
        """
        context = self._believing(name) if verified else _believing_anybody()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if own := self._folder(name):
            _identify(context, own)
        return context

    @property
    def place(self) -> Path:
        """Where to put an authority for this registry."""
        return self._folder(self._registry) or self._roots[-1] / self._registry

    def _believing(self, name: str) -> ssl.SSLContext:
        file = self._environ.get("SSL_CERT_FILE")
        if file and not Path(file).is_file():
            raise UnusableInputError(f"there is no file `{file}`, which `SSL_CERT_FILE` names")
        context = ssl.create_default_context()
        if file:
            _load(context, Path(file))
        for folder in {self._folder(self._registry), self._folder(name)} - {None}:
            _believe(context, folder)
        return context

    def _folder(self, name: str) -> Path | None:
        return next((folder for root in self._roots if _is_folder(folder := root / name)), None)


def _believing_anybody() -> ssl.SSLContext:
    """Without the system's authorities, which take a tenth of a second to read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _believe(context: ssl.SSLContext, folder: Path | None) -> None:
    for file in sorted(folder.glob("*.crt")) if folder else ():
        _load(context, file)


def _load(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise UnusableInputError(f"the certificate `{file}` cannot be used: {reason(error)}") from None


def _identify(context: ssl.SSLContext, folder: Path) -> None:
    for certificate in sorted(folder.glob("*.cert")):
        key = certificate.with_suffix(".key")
        if not key.exists():
            raise UnusableInputError(f"there is `{certificate}` without `{key.name}` beside it")
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise UnusableInputError(f"`{certificate}` and its key cannot be used: {reason(error)}") from None


def _no_password() -> str:
    """Instead of OpenSSL's own question at the terminal."""
    raise ValueError("the key is encrypted")


def reason(error: Exception) -> str:
    """What OpenSSL or the system says, in short."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    if isinstance(error, OSError):
        return (getattr(error, "reason", None) or error.strerror or str(error)).replace("_", " ").lower()
    return str(error)
