import pytest

from mlops_deploy.errors import DeployError
from mlops_deploy.release.effects import Lines, Refused, Written

LINES = ("first", '{"second": "Grüße"}', "third, the longest of them " + "x" * 40)


@pytest.fixture
def written(state, keeper):
    state.lease()
    for position, line in enumerate(LINES):
        assert keeper.append("r-1", line, position, 1) == Written(index=position + 1)
    return state.root / "journals" / "00000001.r-1.jsonl"


def test_lines_come_back_in_order(keeper, written):
    assert keeper.read("r-1") == Lines(lines=LINES)
    assert keeper.read("other") == Lines(lines=())


def test_a_journal_cut_at_any_byte_keeps_its_whole_lines_and_goes_on(keeper, written):
    data = written.read_bytes()
    ends = [index + 1 for index, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(len(data) + 1):
        written.write_bytes(data[:cut])
        whole = LINES[: sum(end <= cut for end in ends)]
        assert keeper.read("r-1") == Lines(lines=whole)
        assert keeper.append("r-1", "next", len(whole), 1) == Written(index=len(whole) + 1)
        assert keeper.read("r-1") == Lines(lines=(*whole, "next"))


def test_a_changed_byte_is_damage_wherever_it_is(keeper, written):
    data = written.read_bytes()
    for place in range(len(data) - 1):
        written.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        seen = keeper.read("r-1")
        assert seen.damaged
        assert seen.lines == LINES[: len(seen.lines)]
        assert len(seen.lines) < len(LINES)
    with pytest.raises(DeployError, match="damaged"):
        keeper.append("r-1", "next", 0, 1)


def test_zeros_that_a_power_cut_left_are_a_torn_line(keeper, written):
    with written.open("ab") as file:
        file.write(bytes(500))
    assert keeper.read("r-1") == Lines(lines=LINES)
    assert keeper.append("r-1", "next", 3, 1) == Written(index=4)
    assert keeper.read("r-1") == Lines(lines=(*LINES, "next"))
    assert written.read_bytes().endswith(b" 4 next\n"), "nothing torn is left behind the last line"


def test_a_line_is_appended_once_and_by_the_holder(state, keeper, written):
    assert keeper.append("r-1", "again", 2, 1) == Refused(reason="the journal `r-1` has 3 lines, not 2")
    assert keeper.append("r-1", "later", 4, 1) == Refused(reason="the journal `r-1` has 3 lines, not 4")
    refused = keeper.append("r-1", "other", 3, 2)
    assert isinstance(refused, Refused)
    assert refused.fenced
    with pytest.raises(DeployError, match="line break"):
        keeper.append("r-1", "two\nlines", 3, 1)
    assert keeper.read("r-1") == Lines(lines=LINES)


def test_journals_are_told_in_the_order_in_which_they_began(state, keeper):
    state.lease()
    names = ("r-9", "r-10", "a", "r-1/x", "zz")
    for name in names:
        keeper.append(name, "line", 0, 1)
    assert keeper.journals() == names


def test_a_line_that_does_not_fit_leaves_the_journal_as_it_was(state, written):
    short = state.keeper("prlimit", "--fsize=2000")
    with pytest.raises(DeployError, match="file too large"):
        short.append("r-1", "y" * 5000, 3, 1)
    assert short.read("r-1") == Lines(lines=LINES)
    assert written.read_bytes().endswith(b"\n")
    assert short.append("r-1", "fits", 3, 1) == Written(index=4)
