import json
import socket
import struct
import threading
from contextlib import suppress

import pytest
import requests.exceptions
from docker.errors import APIError

from mlops_deploy.adapters.keeper_exec import KEEPER, KeeperExec
from mlops_deploy.errors import UnreachableError


class Api:
    """An engine whose exec stream carries the frames that `frames` makes of an answer, a few bytes at a time."""

    def __init__(self, frames, error=None):
        self.frames, self.error, self.asked = frames, error, []

    def exec_create(self, container, argv, stdin):
        if self.error:
            raise self.error
        self.asked.append((container, tuple(argv), stdin))
        return {"Id": "1"}

    def exec_start(self, exec_id, socket):
        ours, theirs = _pair()
        threading.Thread(target=self.serve, args=(theirs,), daemon=True).start()
        return ours

    def serve(self, theirs):
        with suppress(OSError), theirs, theirs.makefile("rb") as lines:  # we may hang up at any time
            for line in lines:
                request = json.loads(line)
                answer = json.dumps({"id": request["id"], "ok": {"names": ["r-1"]}}).encode() + b"\n"
                data = self.frames(answer)
                for start in range(0, len(data), 5):
                    theirs.sendall(data[start : start + 5])


def _pair():
    ours, theirs = socket.socketpair()
    held = socket.SocketIO(ours, "rwb")  # what the SDK hands out over plain HTTP
    return held, theirs


def frame(data, stream=1):
    return struct.pack(">BxxxL", stream, len(data)) + data


@pytest.mark.parametrize(
    "frames",
    [
        frame,
        lambda data: b"".join(frame(data[i : i + 3]) for i in range(0, len(data), 3)),
        lambda d: frame(b"") + frame(d),
    ],
)
def test_an_answer_is_found_in_whatever_frames_it_comes(frames):
    api = Api(frames)
    keeper = KeeperExec(api, "x-router")
    assert keeper.journals() == keeper.journals() == ("r-1",)
    assert api.asked == [("x-router", KEEPER, True)]
    keeper.close()


def test_what_the_program_says_on_its_error_stream_is_the_reason():
    keeper = KeeperExec(Api(lambda _: frame(b"python3: not found\n", 2)), "x-router")
    with pytest.raises(UnreachableError, match="python3: not found"):
        keeper.journals()


@pytest.mark.parametrize("error", [APIError("is not running"), requests.exceptions.ConnectionError("gone")])
def test_a_container_that_takes_no_keeper_is_told(error):
    with pytest.raises(UnreachableError, match="no keeper can be started in `x-router`"):
        KeeperExec(Api(frame, error), "x-router").journals()
