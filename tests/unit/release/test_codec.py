"""What is written is read back; anything else is one clear error."""

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.codec import decode, decode_any, encode
from mlops_deploy.release.effects import Answer, Effect
from mlops_deploy.release.journal import Entry, Opened, from_line, standing, to_line
from mlops_deploy.release.plan import Plan, _checksum, load, save
from mlops_deploy.release.state import Artefact, Freeze, Live, Slot
from mlops_deploy.spec.deploy import GoldenRequest, JsonValue
from mlops_deploy.spec.refs import ContentId, Digest
from tests.simulation import enumeration
from tests.simulation.scenarios import SCENARIOS, planned

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_NUMBERS = st.floats(-1e12, 1e12, allow_nan=False)
_HEX = st.text("0123456789abcdef", min_size=64, max_size=64)

st.register_type_strategy(float, _NUMBERS)
st.register_type_strategy(Digest, _HEX.map(Digest))
st.register_type_strategy(ContentId, _HEX.map(ContentId))

KINDS = [*get_args(Effect), *get_args(Answer), *get_args(Entry), Artefact, Freeze, Live]


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that is written somewhere."""
    if kind == JsonValue:
        return _JSON
    if str(kind).startswith("collections.abc.Mapping"):
        return st.dictionaries(st.text(max_size=5), values(get_args(kind)[1]), max_size=3)
    if str(kind).startswith("tuple"):
        return st.lists(values(get_args(kind)[0]), max_size=2).map(tuple)
    if is_dataclass(kind) and isinstance(kind, type) and kind not in {Digest, ContentId}:
        return st.builds(kind, **{field.name: values(field.type) for field in fields(kind)})
    if get_args(kind) and not str(kind).startswith("typing.Literal"):
        return st.one_of(*(values(inner) for inner in get_args(kind)))
    return st.from_type(kind)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_type_comes_back(kind: type, data: st.DataObject) -> None:
    value = data.draw(values(kind))
    assert decode(kind, json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize(("kind", "data", "message"), [
    (Freeze, {"reason": "x", "by": "y"}, "`freeze.at`: missing"),
    (Freeze, {"reason": "x", "by": "y", "at": 1, "who": 2}, "`freeze.who`: no field of freeze"),
    (Freeze, {"reason": 1, "by": "y", "at": 1}, "`freeze.reason`: expected a text"),
    (Freeze, {"reason": "x", "by": "y", "at": True}, "`freeze.at`: expected a number"),
    (Freeze, {"reason": "x", "by": "y", "at": float("nan")}, "`freeze.at`: expected a number"),
    (Freeze, {"reason": "x", "by": "y", "at": 10**400}, "`freeze.at`: expected a number"),
    (Freeze, {"kind": "live"}, "`freeze.kind`: expected freeze"),
    (Freeze, [], "`freeze`: expected an object"),
    (Slot, "c", "`freeze`: expected one of a, b"),
    (Slot, [], "`freeze`: expected one of a, b"),
    (Entry, {"kind": []}, "`freeze.kind`: expected one of opened"),
    (GoldenRequest, {"request": {}, "expect": {}}, "`freeze.expect`: expected a list"),
])  # fmt: skip
def test_a_mistake_is_named_by_its_place(kind: object, data: object, message: str) -> None:
    with pytest.raises(UnusableInputError) as caught:
        decode_any(kind, data, "freeze")
    assert caught.value.message.startswith(message)


HOSTILE: list[Any] = [None, True, 0, -1, 10**30, 1.5, float("inf"), "", "x" * 300, "\ud800", [], {}, [[]], {"kind": 1}]


def mutated(value: Any, random: Random) -> Any:
    """The same with one thing changed, at any depth."""
    inner = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not inner or random.random() < 0.15:
        return random.choice(HOSTILE)
    copy = value.copy()
    place = random.choice(inner)
    match random.randrange(4 if isinstance(copy, dict) else 3):
        case 0:
            del copy[place]
        case 3:
            copy[random.choice(("kind", "extra", "\ud800", "index"))] = random.choice(HOSTILE)
        case _:
            copy[place] = mutated(copy[place], random)
    return copy


def is_plain(error: UnusableInputError) -> bool:
    """One line that can be printed and read."""
    return "\n" not in error.message and len(error.message) < 600 and error.message.isprintable()


def refused(read: Callable[[], object]) -> bool:
    try:
        read()
    except UnusableInputError as error:
        return bool(error.message.encode()) and is_plain(error)
    return False


def test_ten_thousand_mutated_plans_are_plans_or_refused() -> None:
    random = Random(7)
    bodies = [encode(planned(name)) for name in SCENARIOS]
    count = 0
    for _ in range(10_000):
        body = mutated(random.choice(bodies), random)
        text = json.dumps({"schema": 1, "checksum": _checksum(body), "plan": body})
        if random.random() < 0.2:
            place = random.randrange(len(text))
            text = text[:place] + random.choice('{}[]",:x0\\') + text[place + random.randrange(3) :]
        count += refused(lambda text=text: load(text, "plan.json"))
    assert count > 8_000


def test_ten_thousand_mutated_journals_are_journals_or_refused() -> None:
    random = Random(8)
    journals = [_journal(name) for name in SCENARIOS]
    count = 0
    for _ in range(10_000):
        lines = list(random.choice(journals))
        place = random.randrange(len(lines))
        match random.randrange(4):
            case 0:
                lines[place] = json.dumps(mutated(json.loads(lines[place]), random))
            case 1:
                lines[place] = lines[place][: random.randrange(len(lines[place]))]
            case 2:
                lines[place], lines[0] = lines[0], lines[place]
            case _:
                del lines[place]
        count += refused(lambda lines=lines: standing([from_line(line, i) for i, line in enumerate(lines)]))
    assert count > 3_000


def _journal(name: str) -> list[str]:
    effects = [event[3] for event in enumeration.clean(name)]
    return [effect.line for effect in effects if type(effect).__name__ == "AppendLine"]


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"schema": 1}', "[" * 100_000, '{"schema": [], "plan": 1}', "9" * 5000]
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(UnusableInputError) as caught:
        load(text, "plan.json")
    assert is_plain(caught.value)


def test_a_line_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(UnusableInputError):
        from_line("[" * 100_000, 0)


def test_lines_come_back() -> None:
    for name in SCENARIOS:
        for number, line in enumerate(_journal(name)):
            assert to_line(from_line(line, number)) == line


def test_a_plan_file_holds_no_secret_place_for_more() -> None:
    document = json.loads(save(planned("next")))
    assert set(document) == {"schema", "checksum", "plan"}
    assert isinstance(decode(Plan, document["plan"]), Plan)
    assert isinstance(from_line(_journal("next")[0], 0), Opened)
