"""One value as one line of YAML that every reader takes for exactly that value."""

import json
import re
from typing import Final, assert_never

Scalar = bool | int | str
"""No null and no fraction: YAML readers disagree about both."""

# Plain where YAML 1.1 and 1.2 agree on a string: a name, a path, an amount with its unit; and no word of theirs.
_PLAIN: Final = re.compile(r"[A-Za-z/](?:[A-Za-z0-9_./@-]|:(?!$))*|[0-9]+(?:ms|s|k|m|g|[KMGT]i)")
_WORDS: Final = frozenset({"y", "yes", "n", "no", "on", "off", "true", "false", "null"})

# JSON inside a string is easier to read in single quotes.
_SINGLE: Final = re.compile(r"[ -~]*\"[ -~]*")

# Fine in a JSON string, but a line break, a byte order mark or not printable to YAML.
_BEYOND_JSON: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def as_yaml(value: Scalar | list[str]) -> str:
    """Write `value`, quoted where needed."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return value if _is_plain(value) else _quoted(value)
        case list():
            return f"[{', '.join(_quoted(item) for item in value)}]"
        case _:
            assert_never(value)


def _is_plain(text: str) -> bool:
    return _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS


def _quoted(text: str) -> str:
    if _SINGLE.fullmatch(text):
        return "'" + text.replace("'", "''") + "'"
    written = json.dumps(text, ensure_ascii=False)
    return _BEYOND_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", written)
