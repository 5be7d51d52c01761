import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from mlops_deploy.oci.inventory import SourceFile, Stamp
from mlops_deploy.oci.tar import TRAILER, Folder, Link, ModelFile, Text, file_header, folders_of, header, padding

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\"), min_size=1, max_size=180)
SIZES = st.one_of(st.integers(0, 2**20), st.integers(8**11 - 2, 8**11 + 2), st.integers(0, 2**50))


def by_tarfile(name, size):
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


@given(NAMES, SIZES)
def test_a_file_header_is_what_tarfile_writes(name, size):
    assert file_header(name, size) == by_tarfile(name, size)


def test_a_file_header_is_what_tarfile_writes_at_every_boundary():
    for length in (1, 99, 100, 101, 155, 255, 256, 257):
        for size in (0, 1, 511, 512, 8**11 - 1, 8**11, 2**40):
            assert file_header("n" * length, size) == by_tarfile("n" * length, size)


def test_a_link_target_beyond_ustar_gets_a_record():
    data = header(Link(name="bin/sh", target="t" * 120))
    with tarfile.open(fileobj=io.BytesIO(data + TRAILER)) as tar:
        assert tar.getmember("bin/sh").linkname == "t" * 120


@given(st.integers(0, 2**40))
def test_padding_fills_a_record(size):
    assert (size + len(padding(size))) % 512 == 0
    assert len(padding(size)) < 512


def test_every_kind_of_entry_is_read_back_with_owner_mode_and_no_time():
    entries = (Folder(name="model", owner=65532), Text(name="deploy.sh", data=b"#!", executable=True))
    data = b"".join(header(entry) + (entry.data + padding(2) if isinstance(entry, Text) else b"") for entry in entries)
    with tarfile.open(fileobj=io.BytesIO(data + TRAILER)) as tar:
        members = tar.getmembers()
    found = [(m.name, m.type, m.mode, m.uid, m.gid, m.mtime, m.uname, m.gname) for m in members]
    assert found == [
        ("model", tarfile.DIRTYPE, 0o755, 65532, 65532, 0, "", ""),
        ("deploy.sh", tarfile.REGTYPE, 0o755, 0, 0, 0, "", ""),
    ]


def test_folders_precede_what_is_in_them_and_come_once():
    names = ("models/b/c/x", "models/a", "models/b/y", "models/b-/z")
    assert [folder.name for folder in folders_of(names)] == ["models", "models/b", "models/b-", "models/b/c"]


def test_a_model_file_entry_has_the_fixed_mode_whatever_the_source_has():
    file = SourceFile("a", "/nowhere/a", Stamp(1, 2, 3, 4, 5))
    assert header(ModelFile(name="models/a", file=file)) == by_tarfile("models/a", 3)
