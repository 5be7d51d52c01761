"""A service of a test's own in the engine, changed through the command line alone, and the load on it."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import uuid4

from mlops_deploy.cli.build_model import build_model
from mlops_deploy.store.layout import LayoutStore
from tests.fakes.ports import free_port
from tests.simulation.trace import accept_file

ROOT = Path(__file__).parents[2]
BASES = ("mlops-base:bookworm", "python:3.11-slim-bookworm")
TINY = "mlops-tiny-v2"
ROW = [1.0, 2.0, 3.0]
BODY = {"inputs": [{"name": "input-0", "shape": [1, 3], "datatype": "FP64", "data": ROW}]}
LABEL = "io.mlops-deploy.service"

AGE = """
import json, os
with open("/state/keys/lease.json") as file:
    entry = json.load(file)
with open("/state/keys/.lease.json.test", "w") as file:
    json.dump(entry | {"since": entry["since"] - 61}, file)
os.replace("/state/keys/.lease.json.test", "/state/keys/lease.json")
"""

Done = subprocess.CompletedProcess[str]
Json = dict[str, Any]


def run(*command: str, **more: Any) -> Done:
    """A program to its end, its output as text."""
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def docker(*arguments: str, check: bool = True, **more: Any) -> str:
    """What the docker program says."""
    done = run("docker", *arguments, **more)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


def build_here(file: Path, store: Path, *tags: str) -> None:
    """`build-model` for the model that `file` names, without a process of its own; from any thread."""
    named = [word for tag in tags for word in ("--tag", tag)]
    build_model.main(["--file", str(file), "--store", str(store), *named], standalone_mode=False)


def build_tiny(base: str) -> None:
    """The small v2 server as an image."""
    file = ROOT / "tests" / "fakes" / "tiny_v2" / "Dockerfile"
    docker("build", "--quiet", "--tag", TINY, "--build-arg", f"BASE={base}", "--file", str(file), str(ROOT))


def until(true: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until `true`, and say how long it took."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds, f"after {seconds:g} s still not: {what}"
        time.sleep(0.02)
    return time.monotonic() - started


@dataclass
class Load:
    """Requests at a steady rate from a process of its own; `end` counts them. A context sees to it that it ends."""

    process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def end(self) -> Json:
        """Stop sending, and the count of what came of everything sent."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=90)
        count: Json = json.loads(out)
        return count


@dataclass
class Service:
    """One service: its folder with `mlops.yml`, its port, and the versions that were built for it."""

    folder: Path
    target: str = "docker"
    name: str = field(default_factory=lambda: f"rt-{uuid4().hex[:6]}")
    port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    config: Json = field(default_factory=dict)
    released: bool = False
    loads: list[Load] = field(default_factory=list)
    commands: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.traces.mkdir(parents=True)
        self.config = {
            "service": self.name,
            "target": self.target,
            "port": self.port,
            "model": {"path": "model", "name": self.name},
            "server": {"image": TINY},
            "ready": {"golden": "golden.jsonl", "deadline": "60s"},
            "release": {"bake": "0s", "drain": "5s"},
        }
        self.configure()
        self.use(0)

    @property
    def traces(self) -> Path:
        """Where every command leaves the trace of what it did."""
        return self.folder / "traces"

    @property
    def url(self) -> str:
        """Where clients send requests."""
        return f"http://127.0.0.1:{self.port}/v2/models/{self.name}/infer"

    def configure(self, **sections: Any) -> None:
        """Write `mlops.yml` with some sections changed; None leaves one out."""
        merged = self.config | sections
        self.config = {key: value for key, value in merged.items() if value is not None}
        (self.folder / "mlops.yml").write_text(json.dumps(self.config))

    def restore(self, config: Json) -> None:
        """Write `mlops.yml` as it was."""
        self.config = config
        self.configure()

    def use(self, bias: int, golden: float | None = None) -> None:
        """Make the model on disk one that adds `bias`; the golden request expects that, or `golden`."""
        (self.folder / "model").mkdir(exist_ok=True)
        (self.folder / "model" / "model.json").write_text(json.dumps({"weights": [1, 1, 1], "bias": bias}))
        answer = {"name": "predict", "shape": [1], "datatype": "FP64", "data": [sum(ROW) + bias]}
        expect = answer if golden is None else answer | {"data": [golden]}
        (self.folder / "golden.jsonl").write_text(json.dumps({"request": BODY, "expect": [expect]}) + "\n")
        (self.folder / "body.json").write_text(json.dumps(BODY))

    def build(self, bias: int, *arguments: str) -> str:
        """A carrier in the store of a model that adds `bias`: the first 12 digits of its content id."""
        self.use(bias)
        done = self.run("build-model", "--store", ".mlops/store", "--output", "json", *arguments)
        version: str = json.loads(done.stdout)["content_id"][:12]
        return version

    def command(self, *arguments: str) -> list[str]:
        """The command line of a verb."""
        return [sys.executable, "-m", "mlops_deploy", *arguments]

    def environ(self, verb: str) -> dict[str, str]:
        """The environment of a command; its trace goes to a file of its own."""
        trace = self.traces / f"{time.time_ns()}-{verb}.jsonl"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
        return kept | {"PYTHONPATH": str(ROOT), "MLOPS_DEPLOY_TRACE": str(trace)} | self.environment

    def run(self, *arguments: str, code: int = 0) -> Done:
        """A command to its end, which must be `code`."""
        done = run(*self.command(*arguments), cwd=self.folder, env=self.environ(arguments[0]), timeout=300)
        assert done.returncode == code, (
            f"{arguments} ended with {done.returncode}, not {code}:\n{done.stdout}\n{done.stderr}"
        )
        assert "Traceback" not in done.stderr
        self.released |= arguments[0] == "release" and not code
        return done

    def json(self, *arguments: str, code: int = 0) -> Json:
        """What a command prints as JSON."""
        found: Json = json.loads(self.run(*arguments, "--output", "json", code=code).stdout)
        return found

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that runs beside the test."""
        command = subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environ(arguments[0]),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.commands.append(command)
        return command

    def status(self) -> Json:
        """What `status` says."""
        return self.json("status")

    def release(self, bias: int, *arguments: str, code: int = 0, **environment: str) -> Json:
        """Release the model that adds `bias`, its server with `environment`, and say what the command says."""
        self.use(bias)
        self.configure(env=environment or None)
        return self.json("release", "--model", f"{self.name}:{bias}", *arguments, code=code)

    def build_all(self, *biases: int) -> dict[int, str]:
        """Carriers named `<service>:<bias>`; their versions. Without processes of their own: most tests begin so."""
        return {bias: self._built(bias) for bias in biases}

    def _built(self, bias: int) -> str:
        self.use(bias)
        store = self.folder / ".mlops" / "store"
        build_here(self.folder / "mlops.yml", store, f"{self.name}:{bias}")
        return LayoutStore(store).find(f"{self.name}:{bias}").content_id.hex[:12]

    def load(self, rate: float = 220, new: float = 60) -> Load:
        """Begin to send requests."""
        script, body = str(ROOT / "benchmarks" / "load.py"), str(self.folder / "body.json")
        command = [sys.executable, script, self.url, body, "--rate", str(rate), "--new", str(new), "--seconds", "900"]
        load = Load(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        self.loads.append(load)
        return load

    def ask(self) -> tuple[int, Json]:
        """One request as a client sends it: status and answer."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        path = f"/v2/models/{self.name}/infer"
        try:
            client.request("POST", path, json.dumps(BODY), {"Content-Type": "application/json"})
            answer = client.getresponse()
            text = answer.read()
        finally:
            client.close()
        return answer.status, json.loads(text) if answer.status == http.client.OK else dict(answer.headers)

    def serves(self) -> str | int:
        """The version that answers clients now, or the status of the refusal."""
        status, answer = self.ask()
        return answer["model_version"] if status == 200 else status

    def journaled(self) -> int:
        """How many lines the journals have."""
        count = "cat /state/journals/[0-9]* 2>&- | wc -l"
        return int(self.docker("exec", self.container("router"), "sh", "-c", count))

    def expire_lease(self) -> None:
        """Let the lease be as old as if its holder had not been heard for longer than it lives."""
        self.docker("exec", self.container("router"), "python3", "-c", AGE)

    def kill_at(self, point: int | str, *arguments: str) -> Done:
        """A command that is killed right after its change number `point`, or the first of that name; its code is -9."""
        command = (sys.executable, str(ROOT / "tests" / "fakes" / "dying.py"), str(point), *arguments)
        return run(*command, cwd=self.folder, env=self.environ(arguments[0]), timeout=120)

    def docker(self, *arguments: str) -> str:
        """What the docker program says of this service's engine."""
        return docker(*arguments, env=os.environ | self.environment)

    def container(self, task: str, slot: str | None = None) -> str:
        """The name of a container of this service."""
        return f"{self.name}-{slot or 'router'}-{task}-1"

    def accept_traces(self) -> None:
        """What every command did is what the model of a release allows; a release did something."""
        runs = sum(map(accept_file, sorted(self.traces.iterdir())))
        assert runs or not self.released

    def end_processes(self) -> None:
        """End the commands and loads that a failed test left."""
        for load in self.loads:
            if load.process.poll() is None:
                load.process.kill()
                load.process.communicate()
        for command in self.commands:
            if command.poll() is None:
                command.kill()
            command.communicate()

    def end(self) -> None:
        """Remove everything of this service, also what a failed test left."""
        self.end_processes()
        remove(self.name, os.environ | self.environment)


S = TypeVar("S", bound=Service)


@contextmanager
def services(root: Path, kind: Callable[..., S] = Service) -> Iterator[Callable[..., S]]:
    """Makes services in folders under `root`, and removes everything of them at the end."""
    made: list[S] = []

    def make(**facts: Any) -> S:
        folder = root / f"service-{len(made)}"
        folder.mkdir()
        made.append(kind(folder=folder, **facts))
        return made[-1]

    try:
        yield make
        for service in made:
            service.accept_traces()
    finally:
        for service in made:
            service.end()


def remove(name: str, env: Mapping[str, str]) -> None:
    """Everything of one service in the engine."""
    for kind, forget in (("container", ("rm", "--force", "--volumes")), ("volume", ("rm",)), ("network", ("rm",))):
        if found := listed(kind, name, env):
            docker(kind, *forget, *found, check=False, env=env)
    if images := docker("images", "--quiet", name, env=env).split():
        docker("rmi", "--force", *sorted(set(images)), check=False, env=env)


def listed(kind: str, name: str, env: Mapping[str, str] | None = None) -> Sequence[str]:
    """The names of a service's containers, volumes or networks."""
    everything = ("--all",) if kind == "container" else ()
    form = "{{.Names}}" if kind == "container" else "{{.Name}}"
    return docker(kind, "ls", *everything, "--format", form, "--filter", f"label={LABEL}={name}", env=env).split()
