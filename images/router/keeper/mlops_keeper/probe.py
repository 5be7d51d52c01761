"""One HTTP request through the proxy."""

import http.client
import json
import os

from mlops_keeper.alarm import Within
from mlops_keeper.over_socket import OverSocket
from mlops_keeper.proxy import ENTRY, PRIVATE
from mlops_keeper.wrong import OverdueError, WrongError

LIMIT = 16 << 20
"""Bytes of an answer that are read."""


def ask(run: str, slot: str | None, path: str, body: object, timeout: float) -> dict:
    """Status and JSON of the answer; `WrongError("silent")` when none comes in `timeout` seconds."""
    connection = OverSocket(os.path.join(run, ENTRY if slot is None else PRIVATE))
    headers = {"Connection": "close"} | ({} if slot is None else {"X-Slot": slot})
    method, data = "GET", None
    if body is not None:
        method, data = "POST", json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    try:
        with Within(timeout):
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return {"status": answer.status, "body": _json(answer.read(LIMIT))}
    except OverdueError as late:
        raise WrongError("silent", f"no answer within {timeout:g} s") from late
    except (http.client.InvalidURL, UnicodeError) as error:
        raise WrongError("input", f"`{path[:80]}` is no path of a request") from error
    except (OSError, http.client.HTTPException) as error:
        raise WrongError("silent", f"no answer: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()


def _json(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
