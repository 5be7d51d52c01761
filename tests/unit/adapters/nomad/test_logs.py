"""The frames that a node sends of a log that is followed, however they are cut."""

import base64
import json

import pytest

from mlops_deploy.adapters.nomad.logs import frames


def frame(text):
    return json.dumps({"Data": base64.b64encode(text.encode()).decode(), "File": "f", "Offset": 1}).encode()


WHOLE = b"{}" + frame("one\ntwo\n") + b"{}\n" + frame("thr") + frame("ee {}\n") + b"{}"


@pytest.mark.parametrize("size", [1, 2, 7, 31, 1000])
def test_frames_are_read_however_they_are_cut(size):
    pieces = (WHOLE[start : start + size] for start in range(0, len(WHOLE), size))
    assert list(frames(pieces)) == [b"", b"one\ntwo\n", b"", b"thr", b"ee {}\n", b""]


def test_what_is_cut_off_at_the_end_is_left_out():
    assert list(frames([WHOLE[:-1]])) == list(frames([WHOLE]))[:-1]
