"""A reader of the HCL that we write: blocks, attributes and literal values become the document of Nomad's API.

Small on purpose, and nothing is guessed: what this reader does not know is an error, so that a text which it reads as
a document says that document to Nomad too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from mlops_deploy.errors import DeployError
from mlops_deploy.render.layout import Document, Value
from mlops_deploy.spec.units import parse_duration

REFERENCE: Final = re.compile(r"\$\{(attr|meta|node|env|device)(\.[A-Za-z_][A-Za-z0-9_-]*)+\}")
"""A lookup that Nomad's parser leaves as it is, for the scheduler."""

_TOKEN: Final = re.compile(
    r'[ \t]*(?:\#[^\n]*)?(?:(?P<text>"(?:[^"\\\n]|\\.)*")|(?P<number>-?[0-9]+)|(?P<word>[A-Za-z_][A-Za-z0-9_-]*)'
    r"|(?P<mark>[{}\[\]=,\n]))"
)
_ESCAPE: Final = re.compile(r'\\(?:u([0-9a-f]{4})|([nrt"\\]))|\\')
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_TEMPLATE: Final = re.compile(r"([$%])\1\{|[$%]\{")

Kind = Literal["text", "whole", "truth", "time", "texts", "map"]
Many = Literal["one", "list", "named"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of a block, and the key that it is in the API."""

    key: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Block:
    """A block, and the key that it is in the API; `label` is the key of the name behind its word."""

    key: str
    inside: Mapping[str, "Attribute | Block"]
    many: Many = "one"
    label: str | None = None
    implied: Mapping[str, Value] = field(default_factory=dict)


def _attributes(kind: Kind, **names: str) -> dict[str, Attribute | Block]:
    return {name: Attribute(key, kind) for name, key in names.items()}


_CONFIG: Final[dict[str, Attribute | Block]] = {
    **{name: Attribute(name, "text") for name in ("image", "image_pull_timeout", "network_mode")},
    **{name: Attribute(name, "texts") for name in ("entrypoint", "args", "ports", "cap_drop", "security_opt")},
    "readonly_rootfs": Attribute("readonly_rootfs", "truth"),
    "pids_limit": Attribute("pids_limit", "whole"),
    "mount": Block(
        "mount",
        {
            **{name: Attribute(name, "text") for name in ("type", "source", "target")},
            "readonly": Attribute("readonly", "truth"),
            "tmpfs_options": Block("tmpfs_options", _attributes("whole", size="size", mode="mode"), "list"),
        },
        "list",
    ),
}
_SERVICE: Final[dict[str, Attribute | Block]] = {
    **_attributes("text", name="Name", provider="Provider", port="PortLabel", address="Address"),
    **_attributes("texts", tags="Tags", canary_tags="CanaryTags"),
    "check": Block(
        "Checks",
        {
            **_attributes("text", name="Name", type="Type", port="PortLabel", path="Path"),
            **_attributes("time", interval="Interval", timeout="Timeout"),
            "check_restart": Block(
                "CheckRestart", _attributes("whole", limit="Limit") | _attributes("time", grace="Grace")
            ),
        },
        "list",
    ),
}
_RESTART: Final = Block(
    "RestartPolicy",
    _attributes("whole", attempts="Attempts")
    | _attributes("time", interval="Interval", delay="Delay")
    | _attributes("text", mode="Mode"),
)
_UPDATE: Final = Block(
    "Update",
    _attributes("whole", max_parallel="MaxParallel", canary="Canary")
    | _attributes("text", health_check="HealthCheck")
    | _attributes(
        "time",
        min_healthy_time="MinHealthyTime",
        healthy_deadline="HealthyDeadline",
        progress_deadline="ProgressDeadline",
    )
    | _attributes("truth", auto_revert="AutoRevert", auto_promote="AutoPromote"),
)
_RESOURCES: Final[dict[str, Attribute | Block]] = {
    **_attributes("whole", cpu="CPU", cores="Cores", memory="MemoryMB", memory_max="MemoryMaxMB"),
    "device": Block("Devices", _attributes("whole", count="Count"), "list", "Name"),
}
_TASK: Final[dict[str, Attribute | Block]] = {
    **_attributes("text", driver="Driver", user="User", kill_signal="KillSignal"),
    **_attributes("time", kill_timeout="KillTimeout", shutdown_delay="ShutdownDelay"),
    **_attributes("map", env="Env", meta="Meta"),
    "lifecycle": Block("Lifecycle", _attributes("text", hook="Hook") | _attributes("truth", sidecar="Sidecar")),
    "config": Block("Config", _CONFIG),
    "identity": Block("Identity", _attributes("truth", env="Env")),
    "volume_mount": Block(
        "VolumeMounts",
        _attributes("text", volume="Volume", destination="Destination") | _attributes("truth", read_only="ReadOnly"),
        "list",
    ),
    "service": Block("Services", _SERVICE, "list"),
    "resources": Block("Resources", _RESOURCES),
    "restart": _RESTART,
    "logs": Block("LogConfig", _attributes("whole", max_files="MaxFiles", max_file_size="MaxFileSizeMB")),
}
_GROUP: Final[dict[str, Attribute | Block]] = {
    "count": Attribute("Count", "whole"),
    "update": _UPDATE,
    "restart": _RESTART,
    "reschedule": Block(
        "ReschedulePolicy",
        _attributes("whole", attempts="Attempts")
        | _attributes("time", interval="Interval", delay="Delay", max_delay="MaxDelay")
        | _attributes("text", delay_function="DelayFunction")
        | _attributes("truth", unlimited="Unlimited"),
    ),
    "ephemeral_disk": Block("EphemeralDisk", _attributes("whole", size="SizeMB")),
    "network": Block(
        "Networks",
        {"port": Block("Ports", _attributes("whole", static="Value", to="To"), "list", "Label")},
        "list",
    ),
    "volume": Block(
        "Volumes",
        _attributes("text", type="Type", source="Source", access_mode="AccessMode", attachment_mode="AttachmentMode"),
        "named",
        "Name",
    ),
    "task": Block("Tasks", _TASK, "list", "Name"),
}
_JOB: Final = Block(
    "Job",
    {
        **_attributes("text", name="Name", type="Type", region="Region", namespace="Namespace", node_pool="NodePool"),
        "datacenters": Attribute("Datacenters", "texts"),
        "priority": Attribute("Priority", "whole"),
        "meta": Attribute("Meta", "map"),
        "constraint": Block(
            "Constraints", _attributes("text", attribute="LTarget", operator="Operand", value="RTarget"), "list"
        ),
        "affinity": Block(
            "Affinities",
            _attributes("text", attribute="LTarget", operator="Operand", value="RTarget")
            | _attributes("whole", weight="Weight"),
            "list",
        ),
        "spread": Block(
            "Spreads",
            {
                "attribute": Attribute("Attribute", "text"),
                "weight": Attribute("Weight", "whole"),
                "target": Block("SpreadTarget", _attributes("whole", percent="Percent"), "list", "Value"),
            },
            "list",
        ),
        "periodic": Block(
            "Periodic",
            _attributes("truth", enabled="Enabled", prohibit_overlap="ProhibitOverlap")
            | _attributes("texts", crons="Specs")
            | _attributes("text", time_zone="TimeZone"),
            implied={"SpecType": "cron"},
        ),
        "update": _UPDATE,
        "group": Block("TaskGroups", _GROUP, "list", "Name"),
    },
    label="ID",
)


def read_job(text: str) -> Document:
    """The job that `text` says; raise `DeployError` for anything that we do not write."""
    reader = _Reader(text)
    reader.skip_lines()
    if reader.word() != "job":
        raise reader.wrong("a job")
    job = reader.block(_JOB)
    reader.skip_lines()
    if reader.peek() != ("end", ""):
        raise reader.wrong("the end")
    return {"Name": job["ID"], **job}


class _Reader:
    """One pass over the tokens of a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def wrong(self, expected: str) -> DeployError:
        line = self._text.count("\n", 0, self._at) + 1
        return DeployError(f"a rendered job cannot be read back: line {line} is not {expected}")

    def peek(self) -> tuple[str, str]:
        return self._token()[:2]

    def take(self) -> tuple[str, str]:
        kind, token, self._at = self._token()
        return kind, token

    def _token(self) -> tuple[str, str, int]:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            if self._text[self._at :].strip():
                raise self.wrong("HCL that we write")
            return "end", "", len(self._text)
        return str(found.lastgroup), found[found.lastgroup or 0], found.end()

    def mark(self, mark: str) -> None:
        if self.take() != ("mark", mark):
            raise self.wrong(f"`{mark}`")

    def word(self) -> str:
        kind, token = self.take()
        if kind != "word":
            raise self.wrong("a word")
        return token

    def skip_lines(self) -> None:
        while self.peek() == ("mark", "\n"):
            self.take()

    def block(self, block: Block) -> Document:
        """What stands between the word of a block and the line after it."""
        found: Document = {block.label: self._string()} if block.label else {}
        found |= block.implied
        self.mark("{")
        self.mark("\n")
        self.skip_lines()
        while self.peek() != ("mark", "}"):
            self._entry(block.inside, found)
            self.mark("\n")
            self.skip_lines()
        self.mark("}")
        return _sorted_ports(found)

    def _entry(self, known: Mapping[str, Attribute | Block], found: Document) -> None:
        name = self.word()
        match known.get(name):
            case Attribute(key, kind) if key not in found:
                self.mark("=")
                found[key] = self._value(kind)
            case Block() as block if block.many != "one" or block.key not in found:
                _add(found, block, self.block(block))
            case _:
                raise self.wrong(f"anything known: `{name}`")

    def _value(self, kind: Kind) -> Value:
        match kind:
            case "text":
                return self._string()
            case "whole":
                return self._number()
            case "truth":
                return self._truth()
            case "time":
                return self._time()
            case "texts":
                return self._strings()
            case "map":
                return self._pairs()

    def _string(self) -> str:
        kind, token = self.take()
        if kind != "text":
            raise self.wrong("a text")
        return token[1:-1] if REFERENCE.fullmatch(token[1:-1]) else self._unescaped(token[1:-1])

    def _unescaped(self, raw: str) -> str:
        plain = _TEMPLATE.sub(self._literal, raw)
        return _ESCAPE.sub(self._character, plain)

    def _literal(self, found: re.Match[str]) -> str:
        if found[1] is None:
            raise self.wrong("a text without a template")
        return found[0][1:]

    def _character(self, found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        if not found[2]:
            raise self.wrong("a text with HCL's own escapes")
        return _ESCAPES[found[2]]

    def _number(self) -> int:
        kind, token = self.take()
        if kind != "number":
            raise self.wrong("a number")
        return int(token)

    def _truth(self) -> bool:
        word = self.word()
        if word not in {"true", "false"}:
            raise self.wrong("a truth value")
        return word == "true"

    def _time(self) -> int:
        if self.peek()[0] == "number":
            return self._number()
        return round(parse_duration(self._string()) * 1_000_000_000)

    def _strings(self) -> list[Value]:
        self.mark("[")
        items: list[Value] = []
        while self.peek() != ("mark", "]"):
            items.append(self._string())
            if self.peek() != ("mark", "]"):
                self.mark(",")
        self.mark("]")
        return items

    def _pairs(self) -> Document:
        found: Document = {}
        self.mark("{")
        self.mark("\n")
        while self.peek() != ("mark", "}"):
            name = self.word() if self.peek()[0] == "word" else self._string()
            self.mark("=")
            if name in found:
                raise self.wrong("a name that is new")
            found[name] = self._string()
            self.mark("\n")
        self.mark("}")
        return found


def _add(found: Document, block: Block, inside: Document) -> None:
    match block.many:
        case "one":
            found[block.key] = inside
        case "list":
            there = found.setdefault(block.key, [])
            if isinstance(there, list):
                there.append(inside)
        case "named":
            named = found.setdefault(block.key, {})
            if isinstance(named, dict):
                named[str(inside["Name"])] = inside


def _sorted_ports(found: Document) -> Document:
    """A port that says which one it is is reserved; the API has two lists where HCL has one word."""
    ports = found.pop("Ports", None)
    if not isinstance(ports, list):
        return found
    reserved: list[Value] = [port for port in ports if isinstance(port, dict) and "Value" in port]
    dynamic = [port for port in ports if port not in reserved]
    return {**found, **{key: some for key, some in (("ReservedPorts", reserved), ("DynamicPorts", dynamic)) if some}}
