"""The seams to the outside world: what the façade asks of adapters. Protocols only."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol

from mlops_deploy.oci.inventory import Remote
from mlops_deploy.oci.types import Blob, Descriptor, Platform
from mlops_deploy.release.effects import Answered, Committed, Lines, Refused, Stored, Written
from mlops_deploy.release.forecast import Forecast
from mlops_deploy.release.rolling import RollingView
from mlops_deploy.release.state import Artefact, Route, RouterView, Slot, SlotView
from mlops_deploy.spec.deploy import JsonValue
from mlops_deploy.spec.recipe import ImageFacts, Recipe
from mlops_deploy.spec.refs import Digest, ImageRef


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

    def start(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], on_line: "LineSink", stdin: bytes = b""
    ) -> Running:
        """Start `argv` with exactly the environment `env`; `on_line` gets each line of its output as it comes.

        It reads `stdin`, sees no Ctrl-C of our terminal, and gets SIGTERM when we die, even by SIGKILL. Call from the
        main thread.
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

    def platform(self) -> Platform:
        """What it runs on, which is what it runs."""
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

    def pull(self, ref: str) -> None:
        """Get the image `ref` from its registry; raise `UnusableInputError` when the registry has none of that name."""
        ...

    def labels(self, ref: str) -> Mapping[str, str] | None:
        """The labels of the image that `ref` names there, None when it names none."""
        ...

    def labelled(self, label: str) -> Mapping[str, Mapping[str, str]]:
        """The labels of all images there that have `label`, by the names of the images."""
        ...


class Web(Protocol):
    """Files behind `https://`."""

    def look(self, url: str) -> Remote:
        """What is there; raises `UnusableInputError` where nothing is, or nothing that says its size."""
        ...

    def read(self, remote: Remote, start: int = 0) -> Iterator[bytes]:
        """Its bytes from `start` to its end; a broken connection is taken up again where it broke.

        Raises `UnreachableError` when no try gets on, `UnusableInputError` when it is not what was looked at.
        """
        ...


class Upload(Protocol):
    """A blob on its way into a repository, in one pass; its digest is told when it has been sent."""

    def write(self, block: memoryview) -> None:
        """Send the next bytes; the memory is used again after the return. Retries by itself, from its source."""
        ...

    def commit(self, digest: Digest) -> None:
        """Complete the blob; returns when the registry has it under `digest`."""
        ...

    def abort(self) -> None:
        """Give it up; the registry drops what it got. May be called at any time, also after `commit`."""
        ...


class Repository(Protocol):
    """One repository of a registry. May be used by several threads at once.

    Every call ends: retries are bounded, silence has a limit. Raises `UnreachableError` when the registry does not
    answer or goes on failing, `UnusableInputError` when it says that this may not be done, `ContentMismatchError`
    when it says or stores other bytes than it should.
    """

    @property
    def name(self) -> str:
        """As people write it, with its registry: `registry.example.com:5000/team/digits`."""
        ...

    @property
    def held_back(self) -> int:
        """How often its registry has asked for patience so far (429, 503)."""
        ...

    def resolve(self, reference: str) -> Descriptor | None:
        """What a tag or a digest names now, from its headers or its bytes; None when there is nothing."""
        ...

    def document(self, digest: Digest) -> bytes:
        """An index or manifest, at most 4 MiB, verified; `FileNotFoundError` when it is not there."""
        ...

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob of that digest and size is there."""
        ...

    def read(self, digest: Digest, *, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        """A blob's bytes from `start` on, in pieces of at most 1 MiB; never more than `size` says, where that is known.

        Broken connections are taken up again where they broke. Not verified: the caller hashes. Raises
        `FileNotFoundError` when it is not there.
        """
        ...

    def mount(self, blob: Descriptor, source: str) -> bool:
        """Take a blob over from the repository named `source` of the same registry; False when that is not granted."""
        ...

    def upload(self, size: int, again: Callable[[], Iterable[bytes]]) -> Upload:
        """Begin to send a blob of `size` bytes; `again` gives them from the start when some were lost on the way."""
        ...

    def put_blob(self, blob: Blob) -> None:
        """Send a small blob, unless it is there."""
        ...

    def put_document(self, reference: str, blob: Blob) -> None:
        """Send an index or manifest under a tag or its own digest; all that it names must be there."""
        ...


class Registries(Protocol):
    """The registries that references name, each asked as this machine is told to."""

    def repository(self, ref: ImageRef) -> Repository:
        """The repository of `ref`; nothing is asked yet."""
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


class Keeper(Protocol):
    """The one program beside the router that writes the service's state, over one stream; see docs/keeper.md.

    Every call ends within seconds. Raises `UnreachableError` when no answer comes: whether the call took effect is
    then unknown, and the next call opens a new stream.
    """

    def observed(self) -> RouterView:
        """The committed route, the one in force, and what the router sees and counts."""
        ...

    def commit(self, route: Route, generation: int, token: int) -> Committed | Refused:
        """Write the route whole when `generation` is still the router's and `token` is that of a live lease."""
        ...

    def ask(self, slot: Slot | None, path: str, body: JsonValue, timeout: float) -> Answered:
        """Send one request through the router: by its private way to `slot`, or by the clients' entry.

        GET without a body, else POST of it as JSON. Raises `UnreachableError` when no HTTP answer comes in `timeout`
        seconds.
        """
        ...

    def get(self, key: str) -> Stored:
        """The value of `key`, None with index 0 when there is none; its age by the keeper's own clock."""
        ...

    def keys(self, prefix: str) -> tuple[str, ...]:
        """The names of the keys that begin with `prefix`."""
        ...

    def put(self, key: str, value: JsonValue, index: int, token: int) -> Written | Refused:
        """Write `key` when its index is still `index`.

        All keys but `lease` and `freeze` need the token of a live lease (its `ttl` in seconds not over).
        """
        ...

    def append(self, journal: str, line: str, position: int, token: int) -> Written | Refused:
        """Append a line to a journal when it has `position` lines; durable on return; needs a live lease's token."""
        ...

    def journals(self) -> tuple[str, ...]:
        """The names of the journals, oldest first."""
        ...

    def read(self, journal: str) -> Lines:
        """The lines of a journal; a torn last one was never written and is left out."""
        ...

    def configure(self, config: str) -> bool:
        """Check a proxy configuration, write it and reload without losing a connection; False when it is in force.

        Raises `DeployError` with the proxy's own words when it is not valid; then nothing has changed.
        """
        ...

    def close(self) -> None:
        """End the stream."""
        ...


Task = Literal["bootstrap", "server", "router"]


class Target(Protocol):
    """Where one service runs: two slots and a router. Nothing blocks; each call ends within seconds.

    A thing of our name that is not ours is refused with `UnusableInputError`, never touched. Raises
    `UnreachableError` when the engine does not answer.
    """

    def ensure(self, slot: Slot, artefact: Artefact) -> None:
        """Begin to make `slot` run `artefact`: its bootstrap, then its server.

        The same artefact that runs already is left alone. Another one is removed first, with the slot's volume when it
        holds other content. May be called again at any time, also by another process.
        """
        ...

    def observe(self, slot: Slot) -> SlotView:
        """What `slot` holds and how it is, with a cause and its last log lines where waiting is of no use."""
        ...

    def stop(self, slot: Slot, grace: float) -> None:
        """Begin to stop and remove the tasks of `slot`, with `grace` seconds to finish; its volume stays."""
        ...

    def logs(self, task: Task, slot: Slot | None, tail: int, *, follow: bool) -> Iterable[str]:
        """The last `tail` lines that a task wrote, then, with `follow`, every new one."""
        ...

    def make_router(self, config: str) -> None:
        """Make the router run, with `config` when it is new; an existing one is left alone, a stopped one started.

        Raises `UnusableInputError` when the port is taken.
        """
        ...

    def router_differs(self) -> str | None:
        """What a router has otherwise than it would be made now, and no `configure` changes; None for nothing."""
        ...

    def replace_router(self, config: str) -> None:
        """Make the router anew, with the state that it has; clients get no answer meanwhile.

        When the new one does not start the old one is made again, and the error raised.
        """
        ...

    def restore_state(self, config: str, *, blind: bool) -> Route | None:
        """Lay the state out anew where it is lost, with the route in force; that route, None where nothing was lost.

        Closed where no router runs. Raises `NeedsHumanError` when a router does not say which route is in force,
        unless `blind`: then closed too. What was live, frozen and written down before is not known any more.
        """
        ...

    def keeper(self) -> Keeper | None:
        """A stream to the keeper; None when there is no router."""
        ...

    def remove(self, *, volumes: bool, before_router: Callable[[], None] = ...) -> None:
        """Remove slots, router and network, in this order; with `volumes` the models and the state too.

        `before_router` is called when the slots are gone and the keeper still answers.
        """
        ...


class Rolling(Protocol):
    """One job of a service, whose servers the cluster itself replaces behind a canary; nothing blocks.

    Raises `UnreachableError` when the cluster does not answer, `UnusableInputError` for a job that is not ours.
    """

    def view(self) -> RollingView:
        """The job as it is."""
        ...

    def forecast(self, artefact: Artefact) -> Forecast:
        """What registering `artefact` would change, and what the cluster says of it."""
        ...

    def register(self, artefact: Artefact, index: int) -> None:
        """Register the job that runs `artefact`; `ConflictError` when its index is no longer `index`."""
        ...

    def prove(self, server: str, command: Sequence[str], seconds: float) -> str | None:
        """Run the server's own proof that its model answers inside it; None when it says so with exit 0, else why."""
        ...

    def logs(self, task: Task, tail: int, *, follow: bool) -> Iterable[str]:
        """The last lines of a task of the newest server, as of `Target.logs`; nothing when there is no such task."""
        ...

    def promote(self, deployment: str) -> None:
        """Let the canary be followed by the others."""
        ...

    def take_back(self, now: RollingView, before: RollingView) -> None:
        """Give up what `now` is doing and go back to `before`; refused when somebody else has registered meanwhile."""
        ...


class JobChecker(Protocol):
    """A cluster that looks at a job file, and registers nothing."""

    def check(self, text: str) -> Forecast:
        """What would become of the job in `text`; `UnusableInputError` for one that the cluster does not take."""
        ...


class Clock(Protocol):
    """Time, and waiting for it."""

    def wall(self) -> float:
        """Seconds since 1970."""
        ...

    def elapsed(self) -> float:
        """Seconds of a clock that never goes back."""
        ...

    def pause(self, seconds: float) -> str | None:
        """Wait; the name of the signal that asked us to stop, as soon as one has, else None."""
        ...

    def listening(self) -> AbstractContextManager[None]:
        """Meanwhile SIGINT and SIGTERM end a pause instead of the process; the second of them ends the process."""
        ...
