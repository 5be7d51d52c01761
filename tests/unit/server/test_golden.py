import math

import pytest

from mlops_server.golden import difference

GOT = [
    {"name": "output-0", "shape": [2], "datatype": "INT64", "data": [3, 5]},
    {"name": "p", "shape": [1, 2], "datatype": "FP64", "data": [0.25, 0.75]},
]


def expect(**output):
    return [{"name": "output-0", **output}]


def test_the_same_answer_has_no_difference():
    assert difference(GOT, GOT, 0.0) is None


def test_shape_and_datatype_count_only_where_they_are_expected():
    assert difference(expect(data=[3, 5]), GOT, 0.0) is None
    assert "shape" in difference(expect(data=[3, 5], shape=[1, 2]), GOT, 0.0)
    assert "datatype" in difference(expect(data=[3, 5], datatype="FP64"), GOT, 0.0)


@pytest.mark.parametrize(("tolerance", "same"), [(0.0, False), (0.009, False), (0.011, True)])
def test_numbers_may_differ_by_the_tolerance(tolerance, same):
    wanted = [{"name": "p", "data": [[0.24, 0.75]]}]
    assert (difference(wanted, GOT, tolerance) is None) is same


@pytest.mark.parametrize(
    "data", [[3], [3, 5, 7], [3, "5"], [3, None], [True, 5], [3, 6], [], None], ids=str
)  # fmt: skip
def test_other_values_differ(data):
    assert difference(expect(data=data), GOT, 0.0) is not None


def test_a_missing_output_is_named():
    assert difference([{"name": "other", "data": []}], GOT, 0.0) == "there is no output `other`"


def test_texts_truth_and_nothing_are_compared_exactly():
    got = [{"name": "o", "data": ["a", True, None, math.nan, math.inf]}]
    assert difference(got, got, 0.0) is None
    assert difference([{"name": "o", "data": ["b", True, None, math.nan, math.inf]}], got, 1e9) is not None
    assert difference([{"name": "o", "data": ["a", 1, None, math.nan, math.inf]}], got, 1e9) is not None


def test_a_number_is_never_near_to_nan():
    assert difference([{"name": "o", "data": [1.0]}], [{"name": "o", "data": [math.nan]}], 1e9) is not None
