"""The seams to the outside world: what the façade asks of adapters. Protocols only."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mlops_deploy.spec.recipe import ImageFacts, Recipe
from mlops_deploy.spec.refs import Digest


class Story(Protocol):
    """Who listens to long work. The library never prints; the CLI shows this on stderr."""

    def say(self, text: str) -> None:
        """Tell one fact, as a sentence without a full stop."""
        ...

    def warn(self, text: str) -> None:
        """Tell what the user should know although the work goes on."""
        ...

    def progress(self, label: str, done: int, total: int) -> None:
        """Tell how many bytes of `total` are done; cheap enough to be called for every block."""
        ...


class Completed(Protocol):
    """What a finished program left."""

    @property
    def code(self) -> int:
        """The exit code; negative for a signal."""
        ...

    @property
    def out(self) -> str:
        """Standard output, decoded."""
        ...

    @property
    def err(self) -> str:
        """Standard error, decoded."""
        ...


class Runner(Protocol):
    """Runs programs; argv is never given to a shell."""

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Iterable[bytes | memoryview] | None = None,
        timeout: float | None = None,
        on_line: "LineSink | None" = None,
    ) -> Completed:
        """Run to the end and return what it left, whatever the exit code.

        `env` replaces the environment; `timeout` is in seconds; `on_line` gets stderr's lines as they come.
        Raises `UnreachableError` when the program does not exist or the time is over.
        """
        ...


class Running(Protocol):
    """A program that runs beside this one, and ends with it."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines of its output, standard output and standard error together; complete once it has ended."""
        ...

    def wait(self, seconds: float | None) -> int | None:
        """Wait for its end, for ever if `seconds` is None; its exit code, or None when it still runs."""
        ...

    def end(self, grace: float) -> None:
        """Ask it to end, and kill it with its children after `grace` seconds, or at once when interrupted again."""
        ...


class Launcher(Protocol):
    """Starts programs that go on while we do something else."""

    def start(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], on_line: "LineSink") -> Running:
        """Start `argv` with exactly the environment `env`; `on_line` gets each line of its output as it comes.

        It sees no Ctrl-C of our terminal, and gets SIGTERM when we die, even by SIGKILL. Call from the main thread.
        """
        ...


class LineSink(Protocol):
    """Takes one line of a running program."""

    def __call__(self, line: str, /) -> None:
        """Take a line without its end."""
        ...


class Engine(Protocol):
    """A container engine that can take a carrier."""

    def ping(self) -> bool:
        """Whether an engine answers; never raises for an absent one."""
        ...

    def trouble(self) -> str | None:
        """Why no engine answers, None when one does; with the reason where the user has named an engine."""
        ...

    def image_id(self, ref: str) -> Digest | None:
        """The id of the image that `ref` names there, None when it names none.

        A config's digest with the classic image store, a manifest's or an index's with the containerd store.
        """
        ...

    def load(self, archive: Iterable[bytes | memoryview]) -> None:
        """Feed a docker archive while it is being made; raise `DeployError` when the engine does not take it."""
        ...

    def tag(self, source: str, target: str) -> None:
        """Give the image `source` a further name `NAME:TAG`."""
        ...


class ImageBuilder(Protocol):
    """Makes images from Dockerfiles in an engine."""

    def build(self, recipe: Recipe, on_line: "LineSink") -> Digest:
        """The id of the built image; `on_line` gets the builder's progress, secrets redacted."""
        ...

    def facts(self, ref: str) -> ImageFacts | None:
        """What the engine knows of the image that `ref` names, None when it names none."""
        ...

    def run(self, image: str, argv: Sequence[str]) -> Completed:
        """Run a program of the image to its end, without network and without anything to write to."""
        ...

    def remove(self, image: Digest) -> None:
        """Forget an image that has no name."""
        ...
