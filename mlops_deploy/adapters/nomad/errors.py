"""What goes wrong between us and a Nomad API, in words that name the next step."""

import errno
import json
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, urlsplit

import requests

from mlops_deploy.adapters.nomad.rights import needed_right
from mlops_deploy.adapters.nomad.settings import Cluster
from mlops_deploy.errors import ConflictError, DeployError, UnreachableError, UnusableInputError

_LATER: Final = (
    "No cluster leader",
    "Not ready to serve consistent reads",
    "leadership lost",
    "node is not the leader",
    "No path to node",
    "rpc error: ",
    "keyring has not been initialized",
    "failed to get conn",
    "timed out enqueuing operation",
    "connection reset by peer",
    "connection refused",
    "i/o timeout",
)
"""What servers say while they look for a leader, or for each other."""

_HUNG_UP: Final = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
_ALERTS: Final = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA")

_TOKENS: Final = {
    "ACL token not found": "is not known there",
    "ACL token expired": "has expired",
    "ACL token is invalid": "is no token",
}

_REASONS: Final = {
    errno.ECONNREFUSED: "nothing listens there",
    errno.EHOSTUNREACH: "there is no route to it",
    errno.ENETUNREACH: "there is no route to it",
    errno.ENOENT: "there is no such socket",
    errno.EACCES: "this user may not use that socket",
}


def silence(cluster: Cluster, error: Exception) -> DeployError:
    """No answer came: there is nobody, or somebody we cannot talk with."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _untrusted(cluster, cause)
        if isinstance(cause, _HUNG_UP) and cluster.address.startswith("https:"):
            return _unwanted(cluster, "hung up, as one does that asks for")
    hint = "set `NOMAD_ADDR` to the address of an agent of the cluster, or start one"
    return UnreachableError(f"no Nomad API answers at `{cluster.place}`: {_reason(cluster, causes)}", hint=hint)


def strange(cluster: Cluster, answer: requests.Response) -> DeployError:
    """Something answers that is not Nomad: a web page, a redirection, a text where a document is due."""
    text = re.sub(r"<[^>]*>|\s+", " ", cluster.redacted(answer.text)[:2000]).strip()
    what = " ".join(text.split())[:80] or answer.reason or "nothing"
    return UnreachableError(
        f"what answers at `{cluster.place}` is not a Nomad API: status {answer.status_code}, `{what}`",
        hint="set `NOMAD_ADDR` to the address of an agent, and see which proxy is in between",
    )


def refusal(cluster: Cluster, answer: requests.Response) -> DeployError:
    """A Nomad API says no."""
    text = said(cluster.redacted(answer.text))
    if any(one in text for one in ("Permission denied", *_TOKENS)):
        return forbidden(cluster, answer.request.method or "GET", _path(answer), text)
    if "HTTP request to an HTTPS server" in text:
        hint = "write `https://` instead of `http://` in `NOMAD_ADDR`"
        return UnreachableError(f"`{cluster.place}` speaks TLS", hint=hint)
    if answer.status_code in {429, 502, 503, 504} or any(one in text for one in _LATER):
        what = f"the Nomad API at `{cluster.place}` cannot answer now: {_first(text, answer)}"
        return UnreachableError(what, hint="try again in a moment")
    what = f"the cluster refuses to {_deed(answer)}: {_first(text, answer)}"
    return _known(cluster, text) or DeployError(what)


def _known(cluster: Cluster, text: str) -> DeployError | None:
    if "Enforcing job modify index" in text:
        return ConflictError("somebody else has changed the job meanwhile", detail=(text,), hint="plan again")
    if missing := re.search(r'nonexistent namespace "(.*)"', text):
        return no_namespace(missing.group(1))
    if pool := re.search(r"(?:nonexistent node pool|node pool not found:?) [\"']?([\w-]+)", text):
        return UnusableInputError(
            f"there is no node pool `{pool.group(1)}` on the cluster",
            hint="see `nomad node pool list`, and name one of them by `nomad.node_pool` in `mlops.yml`",
        )
    if "No path to region" in text:
        return UnusableInputError(
            f"there is no region `{cluster.region}`", hint="set `NOMAD_REGION` to one that exists"
        )
    return None


def no_namespace(name: str) -> UnusableInputError:
    """A namespace that is not there."""
    return UnusableInputError(
        f"there is no namespace `{name}` on the cluster",
        hint=f"make it with `nomad namespace apply {name}`, or name another one by `nomad.namespace` in `mlops.yml`"
        " or by `NOMAD_NAMESPACE`",
    )


class AbsentError(DeployError):
    """What was asked for is not there."""


def absent(answer: requests.Response) -> AbsentError:
    """A thing that is not there."""
    return AbsentError(f"the cluster cannot {_deed(answer)}: {_first(said(answer.text), answer)}")


def said(text: str) -> str:
    """What a server said, without the wrapping of the calls between servers."""
    inner = re.sub(r"^(?:rpc error: )?RPC Error:: ?\d+,", "", text.strip())
    return re.sub(r"^(?:rpc error: )", "", inner) if inner != text.strip() else inner


class ForbiddenError(UnusableInputError):
    """The token has not the right."""


def forbidden(cluster: Cluster, method: str, path: str, text: str) -> UnusableInputError:
    """A token that is not known, or one without the right that `method` on `path` needs."""
    for known, what in _TOKENS.items():
        if known in text:
            return bad_token(cluster, what)
    right = needed_right(method, path, cluster.namespace)
    detail = () if text.endswith("Permission denied") else (text,)
    if cluster.token is None:
        message = f"the cluster refuses to {right.deed} without a token: {right.text} is needed"
        return ForbiddenError(message, hint="set `NOMAD_TOKEN` to the secret id of a token that has it", detail=detail)
    return ForbiddenError(
        f"the cluster refuses to {right.deed}: the token in `NOMAD_TOKEN` lacks {right.text}",
        hint=f"give it a policy with `{right.policy}`, or set `NOMAD_TOKEN` to another token",
        detail=detail,
    )


def bad_token(cluster: Cluster, what: str = "is not known there") -> UnusableInputError:
    """A token that no policy can help."""
    return UnusableInputError(
        f"the cluster at `{cluster.place}` refuses the token in `NOMAD_TOKEN`: it {what}",
        hint="set `NOMAD_TOKEN` to the secret id of a token that was not deleted and has not expired",
    )


def too_old(what: str, since: str, found: str | None = None) -> UnusableInputError:
    """Servers that do not know yet what is asked of them."""
    older = f"the cluster runs Nomad {found}" if found else "the cluster does not know it"
    return UnusableInputError(
        f"{what} needs Nomad {since} or later: {older}", hint=f"upgrade its servers and clients to {since} or later"
    )


def _deed(answer: requests.Response) -> str:
    return needed_right(answer.request.method or "GET", _path(answer), "").deed


def _path(answer: requests.Response) -> str:
    return unquote(urlsplit(answer.request.url or "").path).partition("/v1/")[2]


def _first(text: str, answer: requests.Response) -> str:
    """One line: lists of errors are written over several."""
    return " ".join(text.replace("* ", "").split())[:300] or f"status {answer.status_code}"


def _untrusted(cluster: Cluster, error: ssl.SSLError) -> UnreachableError:
    text = f"{error.reason or ''} {error}"
    name = cluster.server_name or urlsplit(cluster.address).hostname
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".")
        if "mismatch" in why:
            return UnreachableError(
                f"the certificate at `{cluster.place}` is for another name than `{name}`",
                hint="set `NOMAD_TLS_SERVER_NAME` to the name in it, such as `server.global.nomad`",
                detail=(why,),
            )
        hint = "set `NOMAD_CACERT` to the certificate of the authority that has signed it"
        return UnreachableError(f"the certificate at `{cluster.place}` is not to be trusted: {why}", hint=hint)
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        hint = "write `http://` instead of `https://` in `NOMAD_ADDR`"
        return UnreachableError(f"`{cluster.place}` does not speak TLS", hint=hint)
    if isinstance(error, ssl.SSLEOFError):
        return _unwanted(cluster, "hung up, as one does that asks for")
    if any(alert in text.upper().replace(" ", "_") for alert in _ALERTS):
        return _unwanted(cluster, "asks for")
    return UnreachableError(f"no TLS with `{cluster.place}`: {error.reason or error}", hint="see its `tls` block")


def _unwanted(cluster: Cluster, how: str) -> UnreachableError:
    """Who asks for a certificate says so after the handshake, and may be gone before it is heard."""
    return UnreachableError(
        f"the cluster at `{cluster.place}` {how} a certificate that it trusts",
        hint="set `NOMAD_CLIENT_CERT` and `NOMAD_CLIENT_KEY` to a certificate of its authority and its key",
    )


def _reason(cluster: Cluster, causes: list[BaseException]) -> str:
    for cause in causes:
        if isinstance(cause, (TimeoutError, requests.Timeout)):
            return "it is silent"
        if isinstance(cause, socket.gaierror):
            return "its name is not known"
        if isinstance(cause, OSError) and cause.errno in _REASONS:
            return _REASONS[cause.errno]
    last = causes[-1]
    text = getattr(last, "strerror", None) or str(last) or type(last).__name__
    return cluster.redacted(text).lower().rstrip(".")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what is behind it: HTTP libraries wrap it as cause, as context, as argument, as `reason`."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inside = [*one.args, getattr(one, "reason", None)]
        waiting += [thing for thing in inside if isinstance(thing, BaseException)] + [one.__cause__, one.__context__]


def document(cluster: Cluster, answer: requests.Response) -> object:
    """The JSON of an answer."""
    try:
        return json.loads(answer.content)
    except ValueError as error:
        raise strange(cluster, answer) from error
