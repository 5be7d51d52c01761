"""The part of a kubelet that a rendered pod relies on, with Docker below it: order, volumes, users, variables, probes.

Init containers run one after the other, each to its end; one that fails ends the attempt. Then all containers start, in
no order that anybody promises. A `$(NAME)` in values, commands and probes is replaced, `$$` is a dollar. An emptyDir is
root's and open to all (0777); an image volume is the image's own tree, read-only; of a secret and a config map the keys
that are listed are there, each under its path, for everybody to read.
"""

import http.client
import json
import re
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

Json = dict[str, Any]

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


class InitFailedError(Exception):
    """An init container ended with another code than 0; a kubelet would start it again, and no other container."""


class RefusedError(Exception):
    """A container that may not be root's, and would be."""


def expand(text: str, known: Mapping[str, str]) -> str:
    """What a process gets for `text`; a name that is not known stays as it is written."""

    def meant(found: re.Match[str]) -> str:
        return "$" if found[1] is None else known.get(found[1], found[0])

    return _REFERENCE.sub(meant, text)


def variables(container: Json) -> dict[str, str]:
    """The environment of a container; each value may name the variables before it."""
    known: dict[str, str] = {}
    for variable in container.get("env", []):
        known[variable["name"]] = expand(variable.get("value", ""), known)
    return known


def quantity(text: str) -> int:
    """Bytes."""
    number, unit = re.fullmatch(r"([0-9]+)([KMGT]i)?", text).groups(default="")
    return int(number) * _UNITS[unit]


def docker(*arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)[:300]}\n{done.stderr}"
    return done


@dataclass
class Pod:
    """One pod of a Deployment; everything in the engine and in `folder` is gone when its context ends."""

    name: str
    spec: Json
    folder: Path
    objects: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """The data of secrets and config maps by their names."""
    _images: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        for volume in self.spec.get("volumes", []):
            self._make(volume)
        return self

    def __exit__(self, *_: object) -> None:
        for container in (*self.inits, *self.containers):
            docker("rm", "--force", "--volumes", self._called(container), check=False)

    @property
    def inits(self) -> list[Json]:
        return self.spec.get("initContainers", [])

    @property
    def containers(self) -> list[Json]:
        return self.spec["containers"]

    def start(self) -> None:
        """Init containers in order, then the others."""
        self.initialise()
        for container in self.containers:
            self.begin(container["name"])

    def initialise(self) -> list[str]:
        """Run the init containers; what each wrote. Raises `InitFailedError` for the first that fails."""
        said = []
        for container in self.inits:
            self.begin(container["name"])
            code, text = self.ended(container["name"]), self.logs(container["name"])
            if code != 0:
                raise InitFailedError(f"{container['name']} exit {code}: {text}")
            said.append(text)
        return said

    def begin(self, name: str) -> None:
        """Start one container, also one that has run before."""
        container = self._container(name)
        docker("rm", "--force", self._called(container), check=False)
        docker("run", "--detach", "--name", self._called(container), *self._options(container), *_process(container))

    def ended(self, name: str, timeout: float = 60) -> int:
        """Wait for the end of a container; its exit code."""
        return int(docker("wait", self._called(self._container(name)), timeout=timeout).stdout)

    def logs(self, name: str) -> str:
        done = docker("logs", self._called(self._container(name)))
        return done.stdout + done.stderr

    def running(self, name: str) -> bool:
        return bool(self._inspect(name)["State"]["Running"])

    def address(self, name: str) -> str:
        return str(self._inspect(name)["NetworkSettings"]["IPAddress"])

    def exec(self, name: str, command: Sequence[str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return docker("exec", self._called(self._container(name)), *command, check=False, timeout=timeout)

    def started(self, name: str) -> bool:
        """Ask the startup probe until it passes; False when it has failed as often as it may, or the process ended."""
        probe = self._container(name)["startupProbe"]
        for _ in range(probe["failureThreshold"]):
            if self.passes(name, "startupProbe"):
                return True
            if not self.running(name):
                return False
            time.sleep(probe["periodSeconds"])
        return False

    def ready(self) -> bool:
        """Whether the pod is one that a Service sends requests to: every container runs, and says that it is ready."""
        return all(
            self.running(one["name"]) and ("readinessProbe" not in one or self.passes(one["name"], "readinessProbe"))
            for one in self.containers
        )

    def passes(self, name: str, probe: str) -> bool:
        """Ask one probe once."""
        container = self._container(name)
        match container[probe]:
            case {"exec": {"command": command}, **rest}:
                words = [expand(word, variables(container)) for word in command]
                try:
                    return self.exec(name, words, timeout=rest.get("timeoutSeconds", 1)).returncode == 0
                except subprocess.TimeoutExpired:
                    return False
            case {"httpGet": asked, **rest}:
                place = self.address(name), _port(container, asked["port"])
                return 200 <= _status(*place, asked["path"], rest.get("timeoutSeconds", 1)) < 400
            case {"tcpSocket": asked}:
                with socket.socket() as one:
                    one.settimeout(1)
                    return one.connect_ex((self.address(name), _port(container, asked["port"]))) == 0
        raise AssertionError(f"unknown probe: {container[probe]}")

    def _make(self, volume: Json) -> None:
        place = self.folder / volume["name"]
        match volume:
            case {"emptyDir": settings} if settings.get("medium") != "Memory":
                place.mkdir()
                place.chmod(0o777)
            case {"secret": {"secretName": name, "items": items}} | {"configMap": {"name": name, "items": items}}:
                place.mkdir()
                for item in items:
                    (place / item["path"]).write_bytes(self.objects[name][item["key"]])
            case {"image": {"reference": reference}}:
                place.mkdir()
                made = docker("create", "--pull", "never", reference, "none").stdout.strip()
                packed = self.folder / f"{volume['name']}.tar"
                docker("export", "--output", str(packed), made)
                docker("rm", made)
                subprocess.run(["tar", "-xf", packed, "-C", place], check=True)

    def _options(self, container: Json) -> list[str]:
        context = container.get("securityContext", {})
        options = ["--pull", "never" if container.get("imagePullPolicy") == "Never" else "missing"]
        for name, value in variables(container).items():
            options += ["--env", f"{name}={value}"]
        for mount in container.get("volumeMounts", []):
            options += self._mount(mount)
        if (user := context.get("runAsUser")) is not None:
            options += ["--user", f"{user}:{context['runAsGroup']}" if "runAsGroup" in context else str(user)]
        if context.get("runAsNonRoot"):
            _refuse_root(container["image"], user)
        if context.get("readOnlyRootFilesystem"):
            options.append("--read-only")
        if context.get("allowPrivilegeEscalation") is False:
            options += ["--security-opt", "no-new-privileges:true"]
        options += [f"--cap-drop={name}" for name in context.get("capabilities", {}).get("drop", [])]
        return [*options, *_limits(container.get("resources", {}).get("limits", {}))]

    def _mount(self, mount: Json) -> list[str]:
        [volume] = [one for one in self.spec["volumes"] if one["name"] == mount["name"]]
        memory = volume.get("emptyDir", {}).get("medium") == "Memory"
        if memory:
            return ["--tmpfs", f"{mount['mountPath']}:size={quantity(volume['emptyDir']['sizeLimit'])},mode=0777"]
        read_only = ",readonly" if mount.get("readOnly") or "image" in volume else ""
        source = self.folder / mount["name"] / mount.get("subPath", "")
        return ["--mount", f"type=bind,source={source},target={mount['mountPath']}{read_only}"]

    def _container(self, name: str) -> Json:
        return next(one for one in (*self.inits, *self.containers) if one["name"] == name)

    def _called(self, container: Json) -> str:
        return f"{self.name}-{container['name']}"

    def _inspect(self, name: str) -> Json:
        [found] = json.loads(docker("inspect", self._called(self._container(name))).stdout)
        return found


def _refuse_root(image: str, user: int | None) -> None:
    """Names are refused too: which number they stand for is known to the image alone."""
    named = str(user) if user is not None else docker("inspect", "--format", "{{.Config.User}}", image).stdout.strip()
    uid = named.partition(":")[0]
    if not uid.isdigit() or int(uid) == 0:
        raise RefusedError(f"container has runAsNonRoot, and would run as `{uid or 'root'}`")


def _process(container: Json) -> list[str]:
    """The image, and what runs in it: `command` stands for the image's entry point, `args` for its command."""
    known = variables(container)
    command = [expand(word, known) for word in container.get("command", [])]
    args = [expand(word, known) for word in container.get("args", [])]
    entry = ["--entrypoint", command[0]] if command else []
    return [*entry, container["image"], *command[1:], *args]


def _limits(limits: Json) -> list[str]:
    options = ["--memory", str(quantity(limits["memory"]))] if "memory" in limits else []
    return [*options, *(["--cpus", str(int(limits["cpu"].removesuffix("m")) / 1000)] if "cpu" in limits else [])]


def _port(container: Json, named: str | int) -> int:
    if isinstance(named, int):
        return named
    return next(port["containerPort"] for port in container["ports"] if port["name"] == named)


def _status(host: str, port: int, path: str, timeout: float) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        with connection.getresponse() as answer:
            return answer.status
    except OSError:
        return 0
    finally:
        connection.close()
