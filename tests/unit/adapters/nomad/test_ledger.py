"""The ledger in one variable: every promise of the keeper, its room, and what is lost or comes too late."""

import json
import random
import threading

import pytest

from mlops_deploy.adapters.nomad import writing
from mlops_deploy.adapters.nomad.book import MOST
from mlops_deploy.adapters.nomad.ledger import Ledger
from mlops_deploy.adapters.nomad.pages import PAGE
from mlops_deploy.adapters.nomad.writing import CONFIG_MOST
from mlops_deploy.errors import DeployError, NeedsHumanError, UnreachableError, UnusableInputError
from mlops_deploy.release.effects import Committed, Lines, Refused, Stored, Written
from mlops_deploy.release.state import CLOSED, Route, whole
from tests.fakes.variables import MemoryVariables

JOB = "svc-router"
PATH = f"nomad/jobs/{JOB}"


@pytest.fixture
def variables():
    return MemoryVariables()


@pytest.fixture
def ledger(variables):
    made = Ledger(variables, JOB)
    made.lay_out("global\n")
    return made


def lease(ledger, token=1, ttl=60.0, holder="test"):
    return ledger.put("lease", {"token": token, "holder": holder, "ttl": ttl}, ledger.get("lease").index, 0)


def fenced(answer):
    return isinstance(answer, Refused) and answer.fenced


def items(variables):
    return variables.kept[PATH][0]


def edit(variables, path=PATH, **changes):
    kept, index, modified = variables.kept[path]
    variables.kept[path] = (kept | changes, index, modified)


def test_a_router_is_closed_and_without_a_lease_at_first(ledger, variables):
    assert json.loads(items(variables)["route"]) == {"share_b": 0, "closed": True, "generation": 0, "token": 0}
    assert items(variables)["config"] == "global\n"
    assert ledger.keys("") == ledger.journals() == ()
    assert ledger.get("lease") == Stored(value=None, index=0, age=0.0)


def test_a_ledger_that_is_there_is_left_alone(ledger, variables):
    lease(ledger)
    ledger.commit(whole("b"), 0, 1)
    before = dict(variables.kept)
    assert not Ledger(variables, JOB).lay_out("other\n")
    assert variables.kept == before
    assert ledger.configure("other\n")
    assert not ledger.configure("other\n")
    assert (ledger.book().config, ledger.book().route.generation) == ("other\n", 1)


def test_a_ledger_may_be_laid_out_with_the_route_that_is_in_force(variables):
    ledger = Ledger(variables, JOB)
    index = ledger.lay_out("global\n", Route(share_b=2500))
    assert index == ledger.index() > 0
    assert json.loads(items(variables)["route"]) == {"share_b": 2500, "closed": False, "generation": 0, "token": 0}
    lease(ledger)
    assert ledger.index() > index
    assert ledger.commit(CLOSED, 0, 1) == Committed(generation=1)


def test_without_its_variable_nothing_is_answered_and_nothing_made(variables):
    ledger = Ledger(variables, JOB)
    for ask in (
        lambda: lease(ledger),
        lambda: ledger.get("live"),
        ledger.journals,
        lambda: ledger.commit(CLOSED, 0, 1),
    ):
        with pytest.raises(NeedsHumanError, match="the state of the service is gone") as told:
            ask()
        assert "router apply" in told.value.hint
    assert not variables.kept


def test_a_route_is_compared_with_its_generation_and_written_with_the_token(ledger, variables):
    lease(ledger, token=7)
    assert ledger.commit(whole("b"), 0, 7) == Committed(generation=1)
    assert ledger.commit(CLOSED, 0, 7) == Refused(reason="the route has generation 1, not 0")
    assert ledger.commit(Route(share_b=2500, closed=True), 1, 7) == Committed(generation=2)
    assert json.loads(items(variables)["route"]) == {"share_b": 2500, "closed": True, "generation": 2, "token": 7}
    for share in (-1, 10001):
        with pytest.raises(DeployError, match="share_b"):
            ledger.commit(Route(share_b=share), 2, 7)


def test_a_lease_ends_by_the_servers_clock_and_only_its_own_writes_renew_it(ledger, variables):
    lease(ledger, ttl=60)
    for _ in range(5):
        variables.pass_time(11.9)
        freeze = ledger.get("freeze")
        assert ledger.put("freeze", {"reason": "x"}, freeze.index, 0) == Written(index=freeze.index + 1)
        ledger.configure(str(freeze.index))
    assert ledger.get("lease").age == pytest.approx(59.5, abs=0.1)
    assert ledger.append("r-1", "x", 0, 1) == Written(index=1)
    variables.pass_time(0.6)
    for late in (ledger.append("r-1", "y", 1, 1), ledger.commit(CLOSED, 0, 1), ledger.put("live", 1, 0, 1)):
        assert late == Refused(reason="the lease has expired", fenced=True)
    assert isinstance(lease(ledger), Written)
    assert ledger.append("r-1", "y", 1, 1) == Written(index=2)


def test_the_token_of_the_lease_never_goes_back(ledger):
    lease(ledger, token=5)
    assert lease(ledger, token=4) == Refused(reason="the token of the lease is 5 and never goes back")
    assert lease(ledger, token=5) == Written(index=2)
    for wrong in (None, {}, {"token": "1", "holder": "x", "ttl": 1}, {"token": 9, "holder": "x"}, {"token": True}):
        with pytest.raises(DeployError, match="a lease is"):
            ledger.put("lease", wrong, 2, 0)


def test_what_a_former_holder_still_sends_is_refused_however_late_it_arrives(ledger, variables):
    """It has read and decided; before its write arrives the lease has gone to another."""
    lease(ledger, token=1)
    other = Ledger(variables, JOB)

    def taken(path):
        variables.before_put = lambda path: None
        lease(other, token=2)

    for late in (
        lambda: ledger.append("r-1", "late", 0, 1),
        lambda: ledger.commit(whole("b"), 0, 1),
        lambda: ledger.put("live", "late", 0, 1),
        lambda: ledger.put("artefact/1", "late" * PAGE, 0, 1),
    ):
        variables.before_put = taken
        assert fenced(late())
    assert ledger.journals() == ()
    assert ledger.keys("") == ("lease",)
    assert ledger.book().route.generation == 0


def test_others_that_never_stop_writing_end_the_patience(ledger, variables, monkeypatch):
    lease(ledger)
    monkeypatch.setattr("mlops_deploy.adapters.nomad.ledger.CONTENTION", 0.05)

    def write(path):
        kept, index, modified = variables.kept[PATH]
        variables.kept[PATH] = (kept, index + 1, modified)

    variables.before_put = write
    with pytest.raises(UnreachableError, match="others have kept writing"):
        ledger.append("r-1", "x", 0, 1)
    variables.before_put = lambda path: None
    assert ledger.journals() == ()


@pytest.mark.parametrize("done", [True, False])
def test_a_write_whose_answer_is_lost_can_be_told_from_one_that_never_was(ledger, variables, done):
    lease(ledger)
    lost = [
        (lambda: ledger.append("r-1", "x", 0, 1), lambda: ledger.read("r-1").lines == ("x",)),
        (lambda: ledger.put("live", "x", 0, 1), lambda: ledger.get("live").value == "x"),
        (lambda: ledger.commit(whole("b"), 0, 1), lambda: ledger.book().route.generation == 1),
    ]
    for write, is_there in lost:
        variables.lost = [done]
        with pytest.raises(UnreachableError):
            write()
        assert is_there() is done
        again = write()
        assert isinstance(again, Refused) is done
        assert not fenced(again)
        assert is_there()


def test_a_page_is_written_before_it_is_named(ledger, variables):
    lease(ledger)
    big = "x" * (3 * PAGE)
    for writes in range(2):
        variables.lost = [None] * writes + [False]
        with pytest.raises(UnreachableError):
            ledger.put("artefact/1", big, 0, 1)
        assert ledger.get("artefact/1") == Stored(value=None, index=0, age=0.0)
    assert ledger.put("artefact/1", big, 0, 1) == Written(index=1)
    assert Ledger(variables, JOB).get("artefact/1").value == big
    assert ledger.put("artefact/1", "small", 1, 1) == Written(index=2)
    assert Ledger(variables, JOB).get("artefact/1").value == "small"


def test_values_of_any_size_and_any_letters_come_back(ledger, variables):
    lease(ledger)
    texts = [
        "",
        "ü",
        "\0",
        "\u2028",
        "\ud800",
        "😀" * PAGE,
        "aü" * PAGE,
        '"\\\n' * 999,
        *("ü" * n for n in range(2000, 2100)),
    ]
    for number, text in enumerate(texts):
        value = [text, {"": text, "n": [1, -1.5, True, None, 10**30, {}, []]}]
        assert ledger.put(f"k{number}", value, 0, 1) == Written(index=1)
        assert Ledger(variables, JOB).get(f"k{number}").value == value
    for number, empty in enumerate(({}, [], 0, False, "", None)):
        ledger.put(f"e{number}", empty, 0, 1)
        stored = ledger.get(f"e{number}")
        assert (stored.value, stored.index) == (empty, 1)
        assert type(stored.value) is type(empty)


def test_lines_of_any_size_come_back_in_order(ledger, variables):
    lease(ledger)
    chance, lines = random.Random(5), []
    for position in range(300):
        line = chance.choice(["", "x", "ü😀", '{"a":"\\n"}', "\r", "\x85 \u2028"]) * chance.choice(
            [0, 1, 1, 9, 99, 999]
        )
        lines.append(line if position % 60 else line + "ä" * chance.choice([1, PAGE, 3 * PAGE]))
        assert ledger.append("r-1", lines[-1], position, 1) == Written(index=position + 1)
    assert Ledger(variables, JOB).read("r-1") == Lines(lines=tuple(lines))
    assert variables.largest <= MOST


def test_a_line_that_cannot_be_a_line_is_an_error(ledger):
    lease(ledger)
    with pytest.raises(DeployError, match="line break"):
        ledger.append("r-1", "two\nlines", 0, 1)
    with pytest.raises(DeployError, match="surrogate"):
        ledger.append("r-1", "\ud800", 0, 1)
    assert ledger.journals() == ()


def test_names_are_those_of_every_keeper(ledger):
    lease(ledger)
    for name in ("a", "a/b", "a.json", "0_x", "a" * 200, "route", "config", "shelf"):
        assert ledger.put(name, name, 0, 1) == Written(index=1)
        assert ledger.append(name, name, 0, 1) == Written(index=1)
        assert ledger.get(name).value == name
    for name in ("", "..", "a/../b", "A", "-a", "/a", "a b", "a\n", "ä", "a" * 201, "a%b", "a\0"):
        for ask in (lambda: ledger.put(name, 1, 0, 1), lambda: ledger.append(name, "", 0, 1), lambda: ledger.get(name)):  # noqa: B023
            with pytest.raises(DeployError, match="is not a name"):
                ask()


def test_years_of_releases_stay_readable_in_one_variable(ledger, variables):
    lease(ledger)
    said = {}
    for number in range(120):
        name, artefact = f"20261121-{number:06}", {"job": {"n": number, "env": ["x" * 5000]}}
        ledger.put(f"artefact/{number:064x}", artefact, 0, 1)
        lines = tuple(f"{name} {step} {'y' * (9000 if step == 0 else 150)}" for step in range(6))
        for position, line in enumerate(lines):
            assert ledger.append(name, line, position, 1) == Written(index=position + 1)
        for key in ("release", "live"):
            assert ledger.put(key, name, number, 1) == Written(index=number + 1)
        said[name] = lines
    fresh = Ledger(variables, JOB)
    assert fresh.journals() == tuple(said)
    assert len(fresh.keys("artefact/")) == 120
    for some in list(said)[::40]:
        assert fresh.read(some) == Lines(lines=said[some])
    assert fresh.get(f"artefact/{3:064x}").value == {"job": {"n": 3, "env": ["x" * 5000]}}
    assert fresh.get("release") == Stored(value=name, index=120, age=pytest.approx(0, abs=1))
    assert variables.largest < MOST - CONFIG_MOST
    before = variables.reads
    Ledger(variables, JOB).get("absent")
    assert variables.reads - before < 20


def test_what_was_put_on_the_shelf_is_written_on(ledger, variables, monkeypatch):
    """Its index, its age and its place among the journals are those it had, also on the last of many shelves."""
    monkeypatch.setattr(writing, "ROOM", 2000)
    lease(ledger, ttl=1e6)
    ledger.put("old", "first", 0, 1)
    ledger.append("r-old", "first", 0, 1)
    ledger.append("r-older", "first", 0, 1)
    variables.pass_time(1000)
    for number in range(60):
        ledger.put(f"filler/{number}", "x" * 100, 0, 1)
    ledger.append("r-new", "x", 0, 1)
    assert not {"keys/old", "journals/r-old"} & set(items(variables))
    assert ledger.get("old") == Stored(value="first", index=1, age=pytest.approx(1000, abs=1))
    assert ledger.put("old", "lost", 0, 1) == Refused(reason="`old` has index 1, not 0")
    assert ledger.put("old", "second", 1, 1) == Written(index=2)
    assert ledger.append("r-old", "lost", 0, 1) == Refused(reason="the journal `r-old` has 1 lines, not 0")
    assert ledger.append("r-old", "second", 1, 1) == Written(index=2)
    assert Ledger(variables, JOB).get("old").value == "second"
    assert Ledger(variables, JOB).read("r-old") == Lines(lines=("first", "second"))
    assert ledger.journals() == ("r-old", "r-older", "r-new")
    assert len(ledger.keys("")) == 62


def test_what_does_not_fit_is_one_error_and_changes_nothing(ledger, variables):
    lease(ledger)
    before = dict(variables.kept)
    with pytest.raises(DeployError, match=rf"configuration has {CONFIG_MOST + 1} bytes"):
        ledger.configure("x" * (CONFIG_MOST + 1))
    with pytest.raises(DeployError, match=f"a Nomad variable holds {MOST}; nothing was changed") as error:
        lease(ledger, holder="x" * MOST)
    assert "are `keys/lease`" in error.value.detail[0]
    assert variables.kept == before
    assert ledger.configure("x" * CONFIG_MOST)
    ledger.append("r-1", "ü" * 1000, 0, 1)
    for number in range(300):
        ledger.put(f"k{number % 7}", "x" * 2040, ledger.get(f"k{number % 7}").index, 1)


def test_what_is_in_use_is_never_put_on_the_shelf(ledger, variables):
    lease(ledger, holder="x" * writing.ROOM, ttl=1e6)
    for number in range(5):
        assert ledger.put("freeze", number, number, 0) == Written(index=number + 1)
        assert lease(ledger, holder="x" * writing.ROOM, ttl=1e6) == Written(index=number + 2)
    assert not pages(variables)


def test_damage_is_told_not_guessed_over(ledger, variables):
    lease(ledger)
    ledger.put("live", 1, 0, 1)
    good = dict(items(variables))
    for text in ("", "{", "[]", "{}", '{"index": "1"}', '{"index": 1, "more": 2}', "[" * 5000):
        edit(variables, **{"keys/live": text})
        with pytest.raises(DeployError, match="`keys/live` in the ledger is damaged"):
            ledger.get("live")
        edit(variables, **good)
    for count in (0, 2):
        edit(variables, **{"journals/r-1": json.dumps({"number": 1, "count": count, "tail": ["x"]})})
        assert ledger.read("r-1") == Lines(lines=("x",), damaged=True)
    for name, text in (("route", '{"share_b": 20000, "closed": true, "generation": 1, "token": 1}'), ("shelf", "7")):
        edit(variables, **{name: text})
        with pytest.raises(DeployError, match=f"`{name}` in the ledger is damaged"):
            ledger.get("live")
        edit(variables, **good)
    edit(variables, other="x")
    with pytest.raises(UnusableInputError, match="has an item `other`"):
        ledger.get("live")


def pages(variables):
    return [path for path in variables.kept if path.startswith(f"{PATH}/pages/")]


@pytest.mark.parametrize("damage", ["delete", "edit"])
def test_a_page_that_is_missing_or_another_is_damage(ledger, variables, damage):
    lease(ledger)
    lines = [f"{number} {'x' * 3000}" for number in range(40)]
    for position, line in enumerate(lines):
        ledger.append("r-1", line, position, 1)
    ledger.put("artefact/1", "x" * PAGE, 0, 1)
    for path in pages(variables):
        kept = dict(variables.kept)
        if damage == "delete":
            variables.delete_variable(path)
        else:
            edit(variables, path, text=variables.kept[path][0]["text"][:-2] + "?\n")
        fresh = Ledger(variables, JOB)
        seen = fresh.read("r-1")
        if seen.damaged:
            assert seen.lines == tuple(lines[: len(seen.lines)])
        else:
            with pytest.raises(DeployError, match="`artefact/1` in the ledger is damaged"):
                fresh.get("artefact/1")
        variables.kept = kept
    assert len(pages(variables)) > 5
    assert Ledger(variables, JOB).read("r-1") == Lines(lines=tuple(lines))


def test_eight_at_once_write_one_after_the_other(variables, ledger):
    lease(ledger)
    lock, done = threading.Lock(), {"keys": [], "generations": [], "lines": []}
    put = variables.put_variable

    def alone(path, items, index):
        with lock:
            return put(path, items, index)

    variables.put_variable = alone

    def work(mine, name):
        for _ in range(20):
            stored = mine.get("count")
            if isinstance(answer := mine.put("count", (stored.value or 0) + 1, stored.index, 1), Written):
                done["keys"].append(answer.index)
            if isinstance(answer := mine.commit(Route(share_b=len(name)), mine.book().route.generation, 1), Committed):
                done["generations"].append(answer.generation)
            if isinstance(answer := mine.append("r-1", name, len(mine.read("r-1").lines), 1), Written):
                done["lines"].append(answer.index)

    threads = [threading.Thread(target=work, args=(Ledger(variables, JOB), f"k{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for numbers in done.values():
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert ledger.get("count").value == len(done["keys"])
    assert len(ledger.read("r-1").lines) == len(done["lines"])
