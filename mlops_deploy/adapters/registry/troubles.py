"""What a failed connection means to people."""

import ssl
from pathlib import Path
from typing import Final, TypeVar

from urllib3.exceptions import ProxyError

from mlops_deploy.adapters.network import reason
from mlops_deploy.adapters.registry.trust import UntrustedError
from mlops_deploy.errors import UnreachableError

Error = TypeVar("Error", bound=Exception)

_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNSUPPORTED_PROTOCOL"})
_NO_CERTIFICATE: Final = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "BAD_CERTIFICATE", "UNKNOWN_CA")


def explained(error: Exception, registry: str, place: Path) -> UnreachableError:
    """The error for people; `place` is where the files that concern trust in the registry would be put."""
    message = f"the registry `{registry}` does not answer: {reason(error)}"
    if _among_causes(error, ssl.SSLCertVerificationError):
        hint = f"put the certificate of its authority into `{place}/ca.crt`, or name it by `SSL_CERT_FILE`"
        return UntrustedError(message, hint=hint)
    if _among_causes(error, ProxyError):
        return UnreachableError(message, hint="check the proxy that `HTTPS_PROXY` or `HTTP_PROXY` names, or `NO_PROXY`")
    if _among_causes(error, ssl.SSLEOFError):
        # What it said before may have been lost, and that may have been that it wants a certificate.
        return UnreachableError(message, hint=f"try again; {_show_ours(place)}")
    if refused := _among_causes(error, ssl.SSLError):
        return _without_tls(refused.reason or "", registry, place) or UnreachableError(message, hint="try again")
    return UnreachableError(message, hint="check its name, the network, and whether `HTTPS_PROXY` should name a proxy")


def _without_tls(said: str, registry: str, place: Path) -> UntrustedError | None:
    """What asking again does not mend; None for what broke on the way."""
    told = f"no TLS with the registry `{registry}`: {said.replace('_', ' ').lower()}"
    if said in _NO_TLS:
        return UntrustedError(told, hint=f"if it speaks plain HTTP, allow that by `--insecure-registry {registry}`")
    if said.endswith(_NO_CERTIFICATE):
        return UntrustedError(told, hint=_show_ours(place))
    return None


def _show_ours(place: Path) -> str:
    return f"it may want to see our certificate: put that into `{place}` as `client.cert` and `client.key`"


def _among_causes(error: BaseException | None, kind: type[Error]) -> Error | None:
    """The first of `kind` among the causes; urllib3 hides some of them in an error's arguments."""
    while error is not None:
        for one in (error, *error.args):
            if isinstance(one, kind):
                return one
        error = error.__cause__ or error.__context__
    return None
