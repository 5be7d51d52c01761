"""What a failed connection means to people."""

import ssl
from pathlib import Path

from urllib3.exceptions import ProxyError

from mlops_deploy.adapters.registry.answers import reason
from mlops_deploy.adapters.registry.trust import UntrustedError
from mlops_deploy.errors import UnreachableError


def explained(error: Exception, registry: str, place: Path) -> UnreachableError:
    """The error for people; `place` is where an authority that vouches for the registry would be put."""
    message = f"the registry `{registry}` does not answer: {reason(error)}"
    if _has(error, ssl.SSLCertVerificationError):
        hint = f"put the certificate of its authority into `{place}/ca.crt`, or name it by `SSL_CERT_FILE`"
        return UntrustedError(message, hint=hint)
    if _has(error, ProxyError):
        return UnreachableError(message, hint="check the proxy that `HTTPS_PROXY` or `HTTP_PROXY` names, or `NO_PROXY`")
    if _has(error, ssl.SSLError):
        hint = f"if it speaks no TLS, add `--insecure-registry {registry}`; if it asks for a client's certificate"
        return UnreachableError(message, hint=f"{hint}, put that into `{place}` as `client.cert` and `client.key`")
    return UnreachableError(message, hint="check its name, the network, and whether `HTTPS_PROXY` should name a proxy")


def _has(error: BaseException | None, kind: type[Exception]) -> bool:
    """Whether `kind` is among the causes; urllib3 hides some of them in an error's arguments."""
    while error is not None:
        if any(isinstance(one, kind) for one in (error, *error.args)):
            return True
        error = error.__cause__ or error.__context__
    return False
