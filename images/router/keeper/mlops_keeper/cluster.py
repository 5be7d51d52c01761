"""The cluster that runs the router, asked by its task API: a socket among the task's secrets, with its own token."""

import http.client
import json
import os
import urllib.parse
from collections.abc import Mapping

from mlops_keeper.over_socket import OverSocket
from mlops_keeper.wrong import WrongError

WAIT = 10
"""Seconds that a question may wait for news. An answer that the cluster forgets to give comes that much later."""

_SLACK = 10.0
"""Seconds for the answer itself: the cluster adds a sixteenth to `WAIT`, and may have to elect a leader."""

_NOT_FOUND = 404


class Cluster:
    """What the cluster knows, by path; `environment` is what it gives each of its tasks."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        try:
            self._socket = os.path.join(environment["NOMAD_SECRETS_DIR"], "api.sock")
            self._token = environment["NOMAD_TOKEN"]
        except KeyError as missing:
            raise WrongError("state", f"the cluster has not set {missing}: the task needs its identity") from missing
        self._namespace = environment.get("NOMAD_NAMESPACE", "default")

    def look(self, path: str, index: int) -> tuple[object, int]:
        """What is at `path` (None: nothing), and its index; waits until that is another one than `index`.

        Raises `WrongError("silent")` when the cluster does not answer.
        """
        query = urllib.parse.urlencode({"namespace": self._namespace, "index": index, "wait": f"{WAIT}s"})
        connection = OverSocket(self._socket, timeout=WAIT + _SLACK)
        try:
            connection.request("GET", f"/v1/{path}?{query}", headers={"Authorization": f"Bearer {self._token}"})
            answer = connection.getresponse()
            data, status = answer.read(), answer.status
            fresh = int(answer.headers.get("X-Nomad-Index") or 0)
        except FileNotFoundError as error:
            # A client cannot make the socket where its `data_dir` is a long path: a socket's has room for 107 bytes.
            raise WrongError("silent", f"there is no `{self._socket}`: is the client's `data_dir` too long?") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
            raise WrongError("silent", f"the cluster does not answer: {reason}") from error
        finally:
            connection.close()
        # An index that went back is worth nothing: the next question must not wait for it.
        return _document(status, data), fresh if fresh >= index else 0


def _document(status: int, data: bytes) -> object:
    if status == _NOT_FOUND:
        return None
    if status == http.client.OK:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            pass
    said = data[:200].decode(errors="replace").strip()
    raise WrongError("silent", f"the cluster answers {status}: {said}")
