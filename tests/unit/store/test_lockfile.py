import json

import pytest

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.oci.types import Platform
from mlops_deploy.store.lockfile import pin_shells, pin_source, pinned_shells, pinned_source
from tests.fakes.carriers import ARM64, fake_shell


def test_what_was_pinned_is_read(tmp_path):
    shells = [fake_shell(tmp_path), fake_shell(tmp_path, ARM64)]
    pin_shells(tmp_path / "mlops.lock", shells)
    assert pinned_shells(tmp_path / "mlops.lock") == {
        Platform("linux", "amd64"): shells[0].digest,
        Platform("linux", "arm64"): shells[1].digest,
    }
    assert json.loads((tmp_path / "mlops.lock").read_bytes())


def test_no_lock_pins_nothing(tmp_path):
    assert pinned_shells(tmp_path / "mlops.lock") == {}


def test_an_unchanged_lock_is_not_written(tmp_path):
    """It is another file after every write; its last access is a matter of the clock."""
    path = tmp_path / "mlops.lock"
    pin_shells(path, [fake_shell(tmp_path)])
    before = path.stat()
    pin_shells(path, [fake_shell(tmp_path)])
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    "garbage",
    [b"", b"x", b"[]", b"5", b"{}", b'{"shells": 5}', b'{"shells": {"linux/amd64": {"digest": "x"}}}', b"\xff"],
)
def test_garbage_is_refused_with_a_way_out(tmp_path, garbage):
    (tmp_path / "mlops.lock").write_bytes(garbage)
    with pytest.raises(UnusableInputError, match="is not a lock file") as caught:
        pinned_shells(tmp_path / "mlops.lock")
    assert caught.value.hint


def test_shells_and_sources_are_pinned_side_by_side(tmp_path):
    path, url = tmp_path / "mlops.lock", "https://example.com/net.onnx"
    assert pinned_source(path, url) is None
    pin_source(path, url, "a" * 64)
    pin_shells(path, [fake_shell(tmp_path)])
    assert pinned_source(path, url) == "a" * 64
    assert len(pinned_shells(path)) == 1
    pin_source(path, url, "b" * 64)
    assert (pinned_source(path, url), len(pinned_shells(path))) == ("b" * 64, 1)
    assert pinned_source(path, "https://example.com/other") is None


@pytest.mark.parametrize(
    "garbage", ['{"sources": 5}', '{"sources": []}', '{"sources": {"u": 5}}', '{"sources": {"u": {"sha256": "x"}}}']
)
def test_garbage_in_place_of_a_source_is_refused(tmp_path, garbage):
    (tmp_path / "mlops.lock").write_text(garbage)
    with pytest.raises(UnusableInputError, match="is not a lock file"):
        pinned_source(tmp_path / "mlops.lock", "u")
