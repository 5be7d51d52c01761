import pytest

from mlops_deploy.errors import DeployError
from mlops_deploy.store.log import Built, append, read


def built(number=0, **changed):
    fields = {
        "time": "2026-01-01T00:00:00+00:00",
        "name": "digits",
        "digest": f"sha256:{number:064x}",
        "content_id": f"{number:064x}",
        "tags": ("digits:1.0",),
        "source": "/models/digits",
    }
    return Built(**(fields | changed))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.jsonl"


def test_what_was_appended_is_read_in_order(path):
    for number in range(3):
        append(path, built(number))
    assert list(read(path)) == [built(number) for number in range(3)]


def test_no_log_is_no_builds(path):
    assert list(read(path)) == []


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_line_is_not_there_and_the_next_build_cuts_it_off(path, cut):
    append(path, built(1))
    append(path, built(2))
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    assert list(read(path)) == [built(1)]
    append(path, built(3))
    assert list(read(path)) == [built(1), built(3)]


def test_a_log_that_is_one_torn_line(path):
    path.write_bytes(b'{"time": "20')
    assert list(read(path)) == []
    append(path, built(1))
    assert list(read(path)) == [built(1)]


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"[]",
        b"5",
        b"null",
        b'"text"',
        b"{}",
        b"\xff\xfe",
        b'{"content_id": "1"}',
        b'{"time":"","name":"n","digest":"sha256:0","content_id":"0","tags":[],"source":""}',
        b'{"time":"","name":"n","digest":5,"content_id":"' + b"0" * 64 + b'","tags":[],"source":""}',
        b'{"time":"","name":"n","digest":"sha256:%b","content_id":"%b","tags":5,"source":""}' % (b"0" * 64, b"0" * 64),
        b'{"time":"","name":"n","digest":"sha256:%b","content_id":"%b","tags":["A B"],"source":""}'
        % (b"0" * 64, b"0" * 64),
    ],
)
def test_a_line_that_is_no_build_is_named(path, line):
    append(path, built(1))
    with path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(DeployError, match="line 2 of the store's log") as caught:
        list(read(path))
    assert caught.value.exit_code in {1, 2}


def test_a_source_whose_name_is_not_utf_8(path):
    append(path, built(1, source="/models/\udcff"))
    assert next(read(path)).source == "/models/\udcff"


def test_a_log_that_is_a_folder(tmp_path):
    with pytest.raises(DeployError, match="cannot be read"):
        list(read(tmp_path))
