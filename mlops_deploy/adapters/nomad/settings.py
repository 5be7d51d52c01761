"""Which cluster, and as whom: the `NOMAD_*` variables of the `nomad` command, with the same meaning."""

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.secret import Secret

DEFAULT_ADDRESS: Final = "http://127.0.0.1:4646"
DEFAULT_NAMESPACE: Final = "default"

_TRUE: Final = {"1", "t", "T", "TRUE", "true", "True"}
_SOCKET: Final = "unix://"
_LEAST_SECRET: Final = 4
"""Characters of what is looked for in the words of others: a shorter text is part of many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The address of an agent's HTTP API, and everything that every request to it carries.

    `socket` is the path of a Unix socket, which then is the way to the agent. TLS is verified unless `skip_verify`.
    `user` is `NAME:PASSWORD`, for a proxy in front of the API.
    """

    address: str = DEFAULT_ADDRESS
    socket: str | None = None
    namespace: str = DEFAULT_NAMESPACE
    region: str | None = None
    token: Secret | None = None
    user: Secret | None = None
    ca_file: str | None = None
    ca_folder: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    server_name: str | None = None
    skip_verify: bool = False

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, namespace: str | None = None, region: str | None = None
    ) -> Self:
        """The cluster that `environ` names, as the `nomad` command would understand it; an empty variable is none.

        `namespace` and `region`, where the service's own configuration says them, win over the environment, as the
        options of the `nomad` command do. Raises `UnusableInputError` for what names no cluster.
        """
        given = {name: value for name, value in environ.items() if value}
        address, socket, user = _address(given.get("NOMAD_ADDR", DEFAULT_ADDRESS))
        return cls(
            address=address,
            socket=socket,
            namespace=_one_namespace(namespace or given.get("NOMAD_NAMESPACE", DEFAULT_NAMESPACE)),
            region=region or given.get("NOMAD_REGION"),
            token=_secret("NOMAD_TOKEN", given.get("NOMAD_TOKEN")),
            user=_user(given.get("NOMAD_HTTP_AUTH"), user),
            ca_file=given.get("NOMAD_CACERT"),
            ca_folder=given.get("NOMAD_CAPATH"),
            client_cert=given.get("NOMAD_CLIENT_CERT"),
            client_key=given.get("NOMAD_CLIENT_KEY"),
            server_name=given.get("NOMAD_TLS_SERVER_NAME"),
            skip_verify=given.get("NOMAD_SKIP_VERIFY") in _TRUE,
        )

    @property
    def place(self) -> str:
        """Where it is, as a user would write it."""
        return f"{_SOCKET}{self.socket}" if self.socket else self.address

    def redacted(self, text: str) -> str:
        """`text` of somebody else, without what is secret here: a library or a proxy may quote a request's headers."""
        secrets = [one.reveal().strip() for one in (self.token, self.user) if one is not None]
        secrets += [base64.b64encode(self.user.reveal().encode()).decode()] if self.user else []
        for secret in secrets:
            text = text.replace(secret, "[redacted]") if len(secret) >= _LEAST_SECRET else text
        return text

    def tls(self) -> ssl.SSLContext:
        """What a TLS connection to the cluster is checked with, and shown as our own certificate.

        `UnusableInputError` for files that cannot be read.
        """
        authorities = _authorities(self.ca_file, self.ca_folder)
        try:
            context = ssl.create_default_context(cadata=authorities)
        except ssl.SSLError as error:
            raise _unusable("NOMAD_CACERT" if self.ca_file else "NOMAD_CAPATH", "holds no certificate") from error
        # Python 3.13 began to refuse authorities without optional extensions; those of small clusters often lack them.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._show(context)
        return context

    def _show(self, context: ssl.SSLContext) -> None:
        if self.client_cert is None and self.client_key is None:
            return
        if self.client_cert is None or self.client_key is None:
            raise UnusableInputError(
                "`NOMAD_CLIENT_CERT` and `NOMAD_CLIENT_KEY` are only of use together", hint="set both, or none of them"
            )
        _text("NOMAD_CLIENT_CERT", self.client_cert)
        _text("NOMAD_CLIENT_KEY", self.client_key)
        try:
            context.load_cert_chain(self.client_cert, self.client_key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise _unusable("NOMAD_CLIENT_CERT", "and `NOMAD_CLIENT_KEY` are no certificate and its key") from error


def _address(given: str) -> tuple[str, str | None, str | None]:
    """The address without who asks, the path of a Unix socket, and who asks."""
    if given.startswith(_SOCKET):
        return "http://127.0.0.1", unquote(given.removeprefix(_SOCKET)), None
    try:
        parts = urlsplit(given)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise _no_address(given) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise _no_address(given)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    user = None if parts.username is None else f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}", None, user


def _no_address(given: str) -> UnusableInputError:
    shown = given.rpartition("@")[2]
    return UnusableInputError(
        f"`NOMAD_ADDR` is `{shown}`, which is no address of a Nomad API",
        hint=f"write it as in `{DEFAULT_ADDRESS}`, `https://nomad.example.com:4646` or `unix:///run/nomad.sock`",
    )


def _one_namespace(name: str) -> str:
    if name == "*":
        raise UnusableInputError(
            "`*` names every namespace, a service lives in one", hint="set `NOMAD_NAMESPACE` to it"
        )
    return name


def _user(given: str | None, in_address: str | None) -> Secret | None:
    return _secret("NOMAD_HTTP_AUTH", given) if given else _secret("NOMAD_ADDR", in_address)


def _secret(variable: str, value: str | None) -> Secret | None:
    """`value`, which becomes part of a header; what no header holds would be quoted by the library that refuses it."""
    if value is None:
        return None
    if "\n" in value or "\r" in value:
        raise UnusableInputError(
            f"`{variable}` holds a line break", hint=f'set it without one: `export {variable}="$(cat FILE)"` drops it'
        )
    if not value.isprintable() or value != value.strip() or (variable == "NOMAD_TOKEN" and not value.isascii()):
        raise UnusableInputError(
            f"`{variable}` holds a blank at an end, or a character that no header has", hint="copy it anew"
        )
    return Secret(value)


def _authorities(file: str | None, folder: str | None) -> str | None:
    """The certificates that alone are trusted; None for those of this machine. A file wins over a folder."""
    if file:
        return _text("NOMAD_CACERT", file)
    if not folder:
        return None
    try:
        names = sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())
    except OSError as error:
        raise _unusable("NOMAD_CAPATH", f"cannot be read: {_why(error)}") from error
    texts = [_text("NOMAD_CAPATH", name) for name in names]
    if not texts:
        raise _unusable("NOMAD_CAPATH", f"is `{folder}`, a folder without files")
    return "\n".join(texts)


def _text(variable: str, name: str) -> str:
    try:
        return Path(name).read_text(encoding="ascii")
    except UnicodeDecodeError as error:
        raise _unusable(variable, f"names `{name}`, which is no PEM file") from error
    except OSError as error:
        raise _unusable(variable, f"names `{name}`, which cannot be read: {_why(error)}") from error


def _unusable(variable: str, problem: str) -> UnusableInputError:
    return UnusableInputError(f"`{variable}` {problem}", hint=f"set `{variable}` to PEM files that this user may read")


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _no_password() -> str:
    """Instead of asking for one at the terminal."""
    return ""
