"""What Nomad makes of a text before a task sees it, undone beforehand, so that every value arrives as it was given.

A client replaces `${name}` in the environment (`client/taskenv`: one pass over each value; what was put in is not
looked at again) and reads every text of a driver's configuration as an HCL template.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.layout import Document, Value

DOLLAR: Final = "mlops_deploy_dollar"
"""A task's meta that is a `$`, which the environment can then name: there is no way to write one before a brace."""

_REPLACED: Final = re.compile(r"\$(\{[A-Za-z0-9_.-]+\})")
_TEMPLATE: Final = re.compile(r"[$%]\{")
_OWN: Final = "NOMAD_"
"""What the names begin with that a client gives values to, and finds its own way by."""


def in_environment(env: Mapping[str, str]) -> tuple[Document, Document]:
    """The environment as a job has to write it, and the meta of the task that this needs.

    Raises `UnusableInputError` for a variable that is Nomad's own.
    """
    if taken := sorted(name for name in env if name.startswith(_OWN)):
        raise UnusableInputError(
            f"`env` sets `{taken[0]}`: what begins with `{_OWN}` is Nomad's own", hint=f"rename `{taken[0]}` in `env`"
        )
    written = {name: _REPLACED.sub(rf"${{NOMAD_META_{DOLLAR}}}\1", value) for name, value in env.items()}
    return dict(written), {DOLLAR: "$"} if written != dict(env) else {}


def in_config(value: Value) -> Value:
    """A driver's configuration as a job has to write it."""
    match value:
        case str():
            _require_composed(value)
            return _TEMPLATE.sub(lambda found: found[0][0] + found[0], value)
        case list():
            return [in_config(item) for item in value]
        case dict():
            return {key: in_config(item) for key, item in value.items()}
        case int():
            return value


def _require_composed(text: str) -> None:
    if not unicodedata.is_normalized("NFC", text):
        raise UnusableInputError(
            f"`{text[:80]}` holds characters that are put together of several, which Nomad would change",
            hint="write them as one character each (Unicode's form NFC)",
        )


def refuse_replaced(where: str, texts: Mapping[str, str]) -> None:
    """Raise `UnusableInputError` for a text in which Nomad would replace something, where that cannot be undone."""
    for name, text in texts.items():
        if found := _REPLACED.search(f"{name} {text}"):
            raise UnusableInputError(
                f"`{where}.{name}` holds `{found[0]}`, which Nomad replaces", hint="write it without the braces"
            )


def nanoseconds(seconds: float) -> int:
    """A duration as the API has it."""
    return round(seconds * 1_000_000_000)
