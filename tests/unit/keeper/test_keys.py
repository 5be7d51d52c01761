import json
import time

import pytest

from mlops_deploy.errors import DeployError
from mlops_deploy.release.effects import Refused, Stored, Written
from mlops_deploy.release.state import Route


def edit(state, key, **changes):
    path = state.root / "keys" / f"{key}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def fenced(answer):
    return isinstance(answer, Refused) and answer.fenced


def test_a_value_is_written_when_nobody_else_has_written_it(state, keeper):
    state.lease()
    assert keeper.get("live") == Stored(value=None, index=0, age=0.0)
    assert keeper.put("live", {"a": [1, None, "ü"]}, 0, 1) == Written(index=1)
    assert keeper.put("live", "lost", 0, 1) == Refused(reason="`live` has index 1, not 0")
    assert keeper.put("live", None, 1, 1) == Written(index=2)
    stored = keeper.get("live")
    assert (stored.value, stored.index) == (None, 2)
    assert 0 <= stored.age < 60


def test_names_are_checked_and_kept_apart(state, keeper):
    state.lease()
    for name in ("a", "a/b", "a.json", "0_x", "a" * 200):
        assert keeper.put(name, name, 0, 1) == Written(index=1)
        assert keeper.get(name).value == name
    assert keeper.keys("a") == ("a", "a.json", "a/b", "a" * 200)
    for name in ("", "..", "a/../b", "A", "-a", "/a", "a b", "a\n", "ä", "a" * 201, "a%b", "a\0"):
        with pytest.raises(DeployError, match="is not a name"):
            keeper.put(name, 1, 0, 1)
    assert not [path for path in state.root.parent.iterdir() if path != state.root]


@pytest.mark.parametrize("key", ["live", "artefacts/x", "lease/x", "freeze-not"])
def test_only_the_holder_of_a_live_lease_writes(state, keeper, key):
    assert fenced(keeper.put(key, 1, 0, 0))
    state.lease(token=3)
    assert fenced(keeper.put(key, 1, 0, 2))
    assert fenced(keeper.put(key, 1, 0, 4))
    assert keeper.put(key, 1, 0, 3) == Written(index=1)
    state.lease(token=3, holder=None)
    assert fenced(keeper.put(key, 2, 1, 3))
    assert fenced(keeper.commit(Route(share_b=5), 0, 3))
    assert state.route()["generation"] == 0


def test_a_freeze_needs_no_lease(keeper):
    assert keeper.put("freeze", {"reason": "incident"}, 0, 0) == Written(index=1)


def test_a_lease_that_is_over_is_worth_nothing(state, keeper):
    state.lease(ttl=60)
    assert isinstance(keeper.put("live", 1, 0, 1), Written)
    edit(state, "lease", since=time.clock_gettime(time.CLOCK_BOOTTIME) - 61)
    assert fenced(keeper.put("live", 2, 1, 1))
    assert fenced(keeper.append("r-1", "x", 0, 1))
    assert fenced(keeper.commit(Route(), 0, 1))
    state.lease(ttl=60)
    assert isinstance(keeper.put("live", 2, 1, 1), Written)


def test_the_token_of_the_lease_never_goes_back(state, keeper):
    state.lease(token=5)
    assert isinstance(state.lease(token=4), Refused)
    assert isinstance(state.lease(token=5), Written)
    for wrong in (None, {}, {"token": "1", "holder": "x", "ttl": 1}, {"token": 9, "holder": "x"}, {"token": True}):
        with pytest.raises(DeployError, match="a lease is"):
            keeper.put("lease", wrong, keeper.get("lease").index, 0)


def test_setting_the_date_changes_no_age(state, keeper):
    state.lease()
    for wall in (0.0, time.time() + 1e6):
        edit(state, "lease", wall=wall)
        assert keeper.get("lease").age < 60


def test_after_a_reboot_a_value_is_old_whatever_the_date(state, keeper):
    state.lease()
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    edit(state, "lease", boot="another", wall=time.time() - up - 1000)
    assert keeper.get("lease").age == pytest.approx(up + 1000, abs=60)
    edit(state, "lease", boot="another", wall=time.time() + 1e6, since=up + 1e6)
    assert keeper.get("lease").age == pytest.approx(up, abs=60)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"value": 1, "index": "1"}'])
def test_damage_is_told_not_guessed_over(state, keeper, text):
    (state.root / "keys" / "live.json").write_text(text)
    with pytest.raises(DeployError, match="damaged"):
        keeper.get("live")


def test_a_value_that_does_not_fit_leaves_the_old_one(state, keeper):
    state.lease()
    keeper.put("live", "old", 0, 1)
    before = sorted(state.root.rglob("*"))
    short = state.keeper("prlimit", "--fsize=2000")
    with pytest.raises(DeployError, match="file too large"):
        short.put("live", "y" * 5000, 1, 1)
    assert keeper.get("live").value == "old"
    assert sorted(state.root.rglob("*")) == before
    assert short.put("live", "new", 1, 1) == Written(index=2)
