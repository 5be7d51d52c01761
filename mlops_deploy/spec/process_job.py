"""The job of a slot without a container engine: two programs, one after the other, and nothing that names the slot."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

ProcessTask = Literal["bootstrap", "server"]

PORT: Final = "@port@"
"""Stands for the port on which the slot's server listens."""

FOLDER: Final = "@folder@"
"""Stands for the slot's own folder; its volume is `models` in there."""

PYTHON: Final = "@python@"
"""Stands for the Python that runs mlops-deploy, which may move while the job stays the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command with all that its environment holds beside what every process needs (`HOME`, `LANG` and the like)."""

    argv: tuple[str, ...]
    env: Mapping[str, str]

    def filled(self, words: Mapping[str, str]) -> "Program":
        """The same with every word replaced by what it stands for in one slot."""
        return replace(
            self,
            argv=tuple(_filled(part, words) for part in self.argv),
            env={name: _filled(value, words) for name, value in self.env.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessJob:
    """The bootstrap runs to its end; when that is good, the server is started."""

    bootstrap: Program
    server: Program

    def program(self, task: ProcessTask) -> Program:
        """The program of a task."""
        return self.bootstrap if task == "bootstrap" else self.server


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text
