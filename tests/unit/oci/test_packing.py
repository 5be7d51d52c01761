from hypothesis import given
from hypothesis import strategies as st

from mlops_deploy.oci.inventory import SourceFile, Stamp
from mlops_deploy.oci.packing import BIG, BUNDLE, MAX_LAYERS, plan_layers
from mlops_deploy.oci.tar import Folder, ModelFile

SIZES = st.one_of(
    st.integers(0, 4096), st.integers(BIG - 2, BIG + 2), st.integers(BUNDLE - 2, BUNDLE + 2), st.integers(0, 2**40)
)
SHELL_AND_METADATA = 2


def files_of(sizes):
    files = [SourceFile(f"f{n % 7}/n{n:05}", f"/m/n{n}", Stamp(1, n, size, 0, 0)) for n, size in enumerate(sizes)]
    return sorted(files, key=lambda file: file.path.encode())


@given(st.lists(SIZES, min_size=1, max_size=400))
def test_never_more_layers_than_docker_takes(sizes):
    assert len(plan_layers(files_of(sizes))) + SHELL_AND_METADATA <= MAX_LAYERS


@given(st.integers(1, 2**30), st.integers(1, 3000))
def test_never_more_layers_than_docker_takes_of_equal_files(size, count):
    assert len(plan_layers(files_of([size] * count))) + SHELL_AND_METADATA <= MAX_LAYERS


@given(st.lists(st.sampled_from([1, BIG - 1, BIG, 3 * BUNDLE]), min_size=97, max_size=300))
def test_never_more_layers_than_docker_takes_when_files_just_do_not_fit_together(sizes):
    assert len(plan_layers(files_of(sizes))) + SHELL_AND_METADATA <= MAX_LAYERS


@given(st.lists(SIZES, min_size=1, max_size=300))
def test_every_file_travels_exactly_once(sizes):
    files = files_of(sizes)
    planned = [file for plan in plan_layers(files) for file in plan.files]
    assert sorted(planned, key=lambda file: file.path.encode()) == files


@given(st.lists(SIZES, min_size=1, max_size=96))
def test_a_big_file_is_alone(sizes):
    for plan in plan_layers(files_of(sizes)):
        if any(file.size >= BIG for file in plan.files):
            assert len(plan.files) == 1


@given(st.lists(SIZES, min_size=1, max_size=300))
def test_entries_are_sorted_by_bytes_with_folders_first(sizes):
    for plan in plan_layers(files_of(sizes)):
        names = [entry.name.encode() for entry in plan.entries if isinstance(entry, ModelFile)]
        folders = [entry.name.encode() for entry in plan.entries if isinstance(entry, Folder)]
        assert names == sorted(names)
        assert folders == sorted(folders)
        assert [*folders, *names] == [entry.name.encode() for entry in plan.entries]


def test_of_too_many_big_files_the_largest_are_alone():
    plans = plan_layers(files_of([BIG + n for n in range(200)]))
    alone = sorted(plan.files[0].size for plan in plans if len(plan.files) == 1)
    assert alone[-96:] == [BIG + n for n in range(104, 200)]


def test_one_changed_shard_changes_one_layer():
    before = plan_layers(files_of([BIG] * 10))
    after = plan_layers(files_of([BIG] * 4 + [BIG + 1] + [BIG] * 5))
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1
