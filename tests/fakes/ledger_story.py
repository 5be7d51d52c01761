"""One story told to two keepers, of which every sentence must be answered alike: chance that a seed repeats."""

import json
import random
from collections import Counter
from dataclasses import dataclass

from mlops_deploy.errors import DeployError, UnreachableError
from mlops_deploy.release.effects import Stored
from mlops_deploy.release.state import Route

KEYS = ("live", "release", "freeze", "artefact/1", "artefact/2")
JOURNALS = ("r-1", "r-2", "r-1/x")
SIZES = (0, 1, 40, 3000, 9000, 120_000)


@dataclass
class Op:
    """A call of a keeper."""

    name: str
    arguments: tuple

    def on(self, keeper):
        """What it answers, or the kind of error."""
        try:
            return getattr(keeper, self.name)(*self.arguments)
        except UnreachableError:
            raise
        except DeployError:
            return "error"


class Story:
    """What several writers do, who know more or less of what is written; `keeper` is looked at for that."""

    def __init__(self, seed, keeper):
        self.chance = random.Random(seed)
        self.keeper = keeper

    def next(self):
        """One call: a write that is up to date, or is not, or a look."""
        return self.chance.choice(
            (
                self._lease,
                self._lease,
                self._put,
                self._put,
                self._append,
                self._append,
                self._append,
                self._commit,
                self._look,
            )
        )()

    def _lease(self):
        found = self.keeper.get("lease")
        token = (found.value or {"token": 0})["token"]
        holder = self.chance.choice([None, "anna", "anna", {"name": "bert", "nonce": "ü"}])
        value = {
            "token": self._near(token + self.chance.choice([0, 1, 1])),
            "holder": holder,
            "ttl": self.chance.choice([60, 60.5, 1000]),
        }
        if self.chance.random() < 0.1:
            value = self.chance.choice([None, {}, 7, {"token": "1", "holder": None, "ttl": 1}])
        return Op("put", ("lease", value, self._near(found.index), 0))

    def _put(self):
        key = self.chance.choice(KEYS)
        text = "".join(self.chance.choice('aü"\\\n😀') for _ in range(7)) * (self.chance.choice(SIZES) // 7)
        value = self.chance.choice([None, {}, [], 1.5, text, {"text": text, "list": [text[:9], False]}])
        return Op("put", (key, value, self._near(self.keeper.get(key).index), self._token()))

    def _append(self):
        journal = self.chance.choice(JOURNALS)
        line = self.chance.choice("xü😀\r\u2028") * self.chance.choice(SIZES)
        if self.chance.random() < 0.03:
            line += self.chance.choice(["\n", "\ud800"])
        return Op("append", (journal, line, self._near(len(self.keeper.read(journal).lines)), self._token()))

    def _commit(self):
        route = Route(share_b=self.chance.choice([0, 1, 10_000, 10_000, 10_001]), closed=self.chance.random() < 0.3)
        return Op("commit", (route, self._near(self.keeper.observed().generation), self._token()))

    def _look(self):
        name = self.chance.choice((*KEYS, *JOURNALS, "Bad"))
        return Op(
            *self.chance.choice(
                [("journals", ()), ("keys", ("",)), ("keys", ("art",)), ("get", (name,)), ("read", (name,))]
            )
        )

    def _token(self):
        return self._near((self.keeper.get("lease").value or {"token": 0})["token"])

    def _near(self, number):
        return number + self.chance.choice([0] * 12 + [-1, 1])


class Telling:
    """Tells a story to `keeper` and, through any of several writers on the same variables, to `ledgers`."""

    def __init__(self, seed, keeper, ledgers, variables, *, path, pass_time):
        self.story = Story(seed, keeper)
        self.chance = self.story.chance
        self.keeper, self.ledgers, self.variables, self.path = keeper, ledgers, variables, path
        self.pass_time = pass_time
        self.seen = Counter()

    def tell(self, steps):
        ways = [self._plainly] * 6 + [self._in_the_middle_of_another, self._with_a_loss]
        for _ in range(steps):
            if self.chance.random() < 0.04:
                self.pass_time(400)
            self.chance.choice(ways)()
        for name in self.keeper.keys(""):
            self._same(Op("get", (name,)))
        for name in self.keeper.journals():
            self._same(Op("read", (name,)))
        assert self.ledgers[0].keys("") == self.keeper.keys("")
        assert self.ledgers[0].journals() == self.keeper.journals()

    def _plainly(self):
        self._same(self.story.next())

    def _in_the_middle_of_another(self):
        """A second writer is faster between the first one's look and its write."""
        op, faster, done = self.story.next(), self.story.next(), []

        def intrude(path):
            if path == self.path:
                del self.variables.before_put
                done.append(faster.on(self.ledgers[1]))

        self.variables.before_put = intrude
        answer = op.on(self.ledgers[0])
        if done:
            self._compare(faster, done[0])
            self.seen["conflict"] += 1
        else:
            del self.variables.before_put
        self._compare(op, answer)

    def _with_a_loss(self):
        op, fate = self.story.next(), self.chance.choice([True, False])

        def lose(path):
            if path == self.path:
                del self.variables.before_put
                self.variables.lost = [fate]

        self.variables.before_put = lose
        try:
            self._compare(op, op.on(self.ledgers[0]))
            del self.variables.before_put
        except UnreachableError:
            self.seen["done" if fate else "lost"] += 1
            if fate:
                op.on(self.keeper)

    def _same(self, op):
        self._compare(op, op.on(self.chance.choice(self.ledgers)))

    def _compare(self, op, answer):
        expected = op.on(self.keeper)
        assert alike(answer, expected), (op.name, str(op.arguments)[:300], str(answer)[:300], str(expected)[:300])
        self.seen["fenced" if getattr(answer, "fenced", False) else type(answer).__name__] += 1


def alike(one, other):
    """Whether two answers say the same; the clocks go on while the story is told."""
    if isinstance(one, Stored) and isinstance(other, Stored):
        return (one.value, one.index) == (other.value, other.index) and abs(one.age - other.age) < 50
    return one == other


def age_files(state, seconds):
    """Let the state folder of a keeper become older."""
    for path in (state.root / "keys").iterdir():
        kept = json.loads(path.read_text())
        path.write_text(json.dumps(kept | {"since": kept["since"] - seconds}))


def age_variable(variables, path, seconds):
    """Let what a variable holds become older."""
    found = variables.variable(path)
    items = dict(found.items)
    for name, text in found.items.items():
        if name.startswith("keys/"):
            kept = json.loads(text)
            since = kept.get("since", found.modified) - int(seconds * 1e9)
            items[name] = json.dumps(kept | {"since": since})
    assert variables.put_variable(path, items, found.index)
