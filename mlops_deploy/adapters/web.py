"""A file behind `https://`: looked at, then read from any offset on; what breaks is taken up where it broke."""

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from mlops_deploy.adapters.network import never_connected, reason
from mlops_deploy.adapters.registry.addresses import kind
from mlops_deploy.adapters.registry.hosts import is_loopback
from mlops_deploy.errors import UnreachableError, UnusableInputError
from mlops_deploy.oci.inventory import Remote
from mlops_deploy.spec.url import shown_url

_TIMEOUTS: Final = (10.0, 60.0)
"""Seconds for a connection, and for silence."""

_PIECE: Final = 64 * 2**10
"""Bytes that may be lost where a connection breaks."""

_PAUSES: Final = (0.2, 1.0, 3.0, 8.0)
"""Seconds before a further try; progress allows all of them again."""

_OK, _PARTIAL, _NO_SUCH_RANGE = 200, 206, 416
_LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")
_AS_IT_IS: Final = {"Accept-Encoding": "identity"}
_DOWNLOAD: Final = "download it, and build the carrier from the file"


class _AgainError(Exception):
    """A try that failed in a way in which the next one may not."""


class HttpWeb:
    """See `ports.Web`. Proxies, certificates and .netrc are those that the environment names for any program."""

    def look(self, url: str) -> Remote:
        """See `ports.Web`."""
        with _session(url) as session:
            answer = _repeated(url, lambda: _asked(session, url, None, 0))
            answer.close()
        size = answer.headers.get("Content-Length", "")
        if not size.isdecimal() or "Content-Encoding" in answer.headers:
            raise UnusableInputError(
                f"`{shown_url(url)}` does not say how many bytes it has",
                hint=_DOWNLOAD,
            )
        return Remote(url=url, size=int(size), version=_version(answer), exact=_exact(answer))

    def read(self, remote: Remote, start: int = 0) -> Iterator[bytes]:
        """See `ports.Web`."""
        at, tries = start, 0
        with _session(remote.url) as session:
            while at < remote.size:
                begun = at
                try:
                    for piece in _from(session, remote, at):
                        at += len(piece)
                        yield piece
                except _AgainError as error:
                    tries = 0 if at - begun >= _PIECE else tries
                    if tries == len(_PAUSES):
                        raise _silent(remote.url, error) from error
                    time.sleep(_PAUSES[tries])
                    tries += 1


def _session(url: str) -> requests.Session:
    """A session that follows no redirection to a plain `http://`, unless such a place on loopback was named itself."""
    found = urlsplit(url)
    plain = found.scheme == "http" and is_loopback(found.hostname or "")
    if found.scheme != "https" and not plain:
        raise UnusableInputError(
            f"`{shown_url(url)}` is not fetched: only `https://` is", hint="name the file by `https://`"
        )
    session = _Session(found.hostname or "")
    session.headers.update(_AS_IT_IS)
    session.max_redirects = 5
    session.mount("https://", _Trusting())
    if not plain:
        del session.adapters["http://"]
    return session


class _Session(requests.Session):
    """Is led nowhere near: a server elsewhere may not send us to what only this machine or its network can reach."""

    def __init__(self, home: str) -> None:
        super().__init__()
        self._home = home

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        host = urlsplit(urljoin(resp.url, target)).hostname if target else None
        if host is not None and host != self._home and not _kinds(host) <= {"public", *_kinds(self._home) - {"own"}}:
            resp.close()
            raise UnusableInputError(
                f"`{self._home}` sends us to `{host}`, which is not public: nothing was asked there",
                hint="name the file where it is, or download it",
            )
        return target


def _kinds(host: str) -> set[str]:
    """How near the addresses of `host` are; none for a name that is not known."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {kind(ip_address(str(entry[4][0]).partition("%")[0])) for entry in found}


class _Trusting(HTTPAdapter):
    """Believes the system's authorities and those that `SSL_CERT_FILE` names too, as registries are believed."""

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:  # noqa: ANN401 - passed on as it is
        super().init_poolmanager(*arguments, **more, ssl_context=ssl.create_default_context())

    def proxy_manager_for(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - passed on as it is
        return super().proxy_manager_for(*arguments, **more, ssl_context=ssl.create_default_context())


def _repeated(url: str, work: Callable[[], requests.Response]) -> requests.Response:
    for pause in (*_PAUSES, None):
        try:
            return work()
        except _AgainError as error:
            # Where nobody listens, one more look will do.
            if pause is None or (pause != _PAUSES[0] and error.__cause__ and never_connected(error.__cause__)):
                raise _silent(url, error) from error
            time.sleep(pause)
    raise AssertionError("the last try has ended one way or the other")


def _from(session: requests.Session, remote: Remote, at: int) -> Iterator[bytes]:
    """The bytes from `at` to the end; raises `_AgainError` where the connection breaks."""
    with _asked(session, remote.url, remote, at) as answer:
        skip = 0 if answer.status_code == _PARTIAL else at
        left = remote.size - at
        try:
            for piece in _pieces(answer):
                fresh, skip = piece[skip:], max(0, skip - len(piece))
                if len(fresh) > left:
                    raise _changed(remote.url)
                left -= len(fresh)
                if fresh:
                    yield fresh
        except (requests.RequestException, HTTPError) as error:
            raise _AgainError(reason(error)) from error
    if left:
        raise _AgainError("it ended too early")


def _asked(session: requests.Session, url: str, remote: Remote | None, at: int) -> requests.Response:
    """The answer to a request for the bytes from `at` on, or, where ranges are not known, for all."""
    headers = {"Range": f"bytes={at}-"} if at else {}
    try:
        answer = _in_time(lambda: session.get(url, headers=headers, stream=True, timeout=_TIMEOUTS))
    except requests.TooManyRedirects as error:
        raise UnusableInputError(
            f"`{shown_url(url)}` leads nowhere: from one place to the next", hint=_DOWNLOAD
        ) from error
    except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
        raise UnusableInputError(
            f"`{shown_url(url)}` leads nowhere: to what is no `https://` URL", hint=_DOWNLOAD
        ) from error
    except requests.exceptions.SSLError as error:
        raise UnreachableError(
            f"`{shown_url(url)}` cannot be read: {reason(error)}",
            hint="where its authority is one of your own, name a file of it in `SSL_CERT_FILE`",
        ) from error
    except requests.RequestException as error:
        raise _AgainError(reason(error)) from error
    try:
        _require(answer, url, remote, at)
    except BaseException:
        answer.close()
        raise
    return answer


def _pieces(answer: requests.Response) -> Iterator[bytes]:
    """What comes, as it comes; raises `_AgainError` where next to nothing does."""
    came, since = 0, time.monotonic()
    while piece := answer.raw.read1(_PIECE):
        yield piece
        came += len(piece)
        if time.monotonic() - since > _TIMEOUTS[1]:
            if came < _PIECE:
                raise _AgainError("next to nothing comes")
            came, since = 0, time.monotonic()


def _in_time(ask: Callable[[], requests.Response]) -> requests.Response:
    """The head of an answer, whose parts may each take their time, but not all of them together."""
    done: SimpleQueue[requests.Response | Exception] = SimpleQueue()

    def work() -> None:
        try:
            done.put(ask())
        except Exception as error:  # noqa: BLE001 - raised again where somebody waits
            done.put(error)

    Thread(target=work, daemon=True).start()
    try:
        found = done.get(timeout=sum(_TIMEOUTS))
    except Empty:
        raise _AgainError("no answer in time") from None
    if isinstance(found, Exception):
        raise found
    return found


def _require(answer: requests.Response, url: str, remote: Remote | None, at: int) -> None:
    if answer.status_code in _LATER:
        raise _AgainError(f"it answers {answer.status_code}")
    if answer.status_code == _NO_SUCH_RANGE or (remote is not None and _version(answer) != remote.version):
        raise _changed(url)
    if answer.status_code not in {_OK, _PARTIAL}:
        raise UnusableInputError(
            f"`{shown_url(url)}` cannot be read: it answers {answer.status_code} {answer.reason}",
            hint="check the address; a name and password are taken from `.netrc`",
        )
    if answer.status_code == _PARTIAL:
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if found is None or remote is None or (int(found[1]), int(found[2])) != (at, remote.size):
            raise _changed(url)


def _version(answer: requests.Response) -> str:
    """What changes when the file does, as far as its server says: its entity tag, else its time."""
    return answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""


def _exact(answer: requests.Response) -> bool:
    """Whether another file surely has another version: a weak tag does not say so, and a time has a second's grain."""
    return answer.headers.get("ETag", "").startswith('"')


def _silent(url: str, error: Exception) -> UnreachableError:
    return UnreachableError(f"`{shown_url(url)}` cannot be read: {error}", hint="try again later")


def _changed(url: str) -> UnusableInputError:
    return UnusableInputError(
        f"`{shown_url(url)}` changed while it was read", hint="build again; name a version of it that does not change"
    )
