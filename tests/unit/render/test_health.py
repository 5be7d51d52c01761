import json

import pytest

from mlops_deploy.render.health import golden_list, rhythm
from mlops_deploy.spec.deploy import GoldenRequest


@pytest.mark.parametrize("deadline", [3, 10, 59.5, 120, 3600])
def test_a_server_that_never_gets_ready_is_unhealthy_at_the_deadline(deadline):
    beat = rhythm(deadline)
    assert beat.start_period + beat.retries * beat.interval == pytest.approx(deadline)


def test_a_deadline_below_three_checks_takes_three_checks():
    beat = rhythm(1)
    assert (beat.start_period, beat.interval, beat.retries) == (0, 1, 3)


def test_checks_are_dense_at_first_and_rare_later():
    beat = rhythm(600)
    assert (beat.start_interval, beat.interval) == (1, 10)


def test_golden_requests_are_one_line_whatever_the_order_of_their_keys():
    one = GoldenRequest(request={"a": "ü\n", "b": 2}, expect=({"name": "y", "data": [1]},), tolerance=0.5)
    two = GoldenRequest(request={"b": 2, "a": "ü\n"}, expect=({"data": [1], "name": "y"},), tolerance=0.5)
    assert golden_list([one]) == golden_list([two])
    assert len(golden_list([one, two]).splitlines()) == 1
    assert json.loads(golden_list([one])) == [
        {"request": {"a": "ü\n", "b": 2}, "expect": [{"name": "y", "data": [1]}], "tolerance": 0.5}
    ]
