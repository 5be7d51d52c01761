"""What a slot without a container engine runs, and what has to be there for it: told from files, then made."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

from mlops_deploy.api.artefact import job_carrier
from mlops_deploy.api.puller_image import PROGRAM
from mlops_deploy.api.serve import Served, check_preset, environment
from mlops_deploy.api.server_env import Packages, find_or_make, programs_of
from mlops_deploy.api.server_inputs import ServerBuild
from mlops_deploy.oci.partial import reporting
from mlops_deploy.ports import Launcher, Story
from mlops_deploy.render.pulling import CA, CREDENTIALS, files_on_node, pull_environment
from mlops_deploy.spec.deploy import DeploySpec
from mlops_deploy.spec.preset import fill_preset, filling
from mlops_deploy.spec.process_job import FOLDER, PORT, PYTHON, ProcessJob, Program
from mlops_deploy.spec.refs import SHORT
from mlops_deploy.store.files import replace_file
from mlops_deploy.store.layout import Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalServer:
    """The server of a build as programs of this machine, below the folder `cache`."""

    build: ServerBuild
    cache: Path

    @property
    def packages(self) -> Packages:
        """What its environment is made of."""
        constraints = self.build.constraints or self.build.recipe / "constraints.txt"
        return Packages(requirements=self.build.recipe / "requirements.txt", constraints=constraints)

    @property
    def programs(self) -> Path:
        """Where its environment's programs are, or will be."""
        return programs_of(self.packages, self.cache)

    @property
    def hook(self) -> Path | None:
        """Where its hook is, or will be: by content, so that a slot that starts again runs what was released."""
        if self.build.hook is None:
            return None
        with self.build.hook.open("rb") as file:
            return self.cache / f"hook-{file_digest(file, 'sha256').hexdigest()[:SHORT]}" / self.build.hook.name

    def make(self, environ: Mapping[str, str], launcher: Launcher, story: Story) -> None:
        """Make what is not there yet."""
        find_or_make(self.packages, self.cache, environ, launcher, story)
        if self.build.hook is not None and (hook := self.hook) is not None and not hook.exists():
            with reporting(f"`{hook}`"):
                hook.parent.mkdir(parents=True, exist_ok=True)
                replace_file(hook, self.build.hook.read_bytes())


def process_job(spec: DeploySpec, carrier: Stored, store: Path, server: LocalServer) -> ProcessJob:
    """Bootstrap and server of one artefact, without anything that depends on the slot they run in.

    Raises `UnusableInputError` for a preset that needs a container engine.
    """
    check_preset(server.build.preset)
    served = Served(
        model=carrier.name,
        content_id=carrier.content_id,
        path=Path(FOLDER) / "models" / "v" / carrier.content_id.hex,
        port=0,
        deadline=spec.ready.deadline,
        hook=server.hook,
        env=spec.env,
    )
    words = filling(server.build.preset, name=carrier.name, content=carrier.content_id, path=str(served.path))
    preset = fill_preset(server.build.preset, words | {"port": PORT})
    env = environment(served, preset, server.programs, {}) | {"PORT": PORT}
    return ProcessJob(
        bootstrap=_bootstrap(spec, carrier, store),
        server=Program(argv=(*preset.command, *preset.args), env=env),
    )


def _bootstrap(spec: DeploySpec, carrier: Stored, store: Path) -> Program:
    """What brings the model into the slot's volume: out of the store, or by a pull of its own, which needs none."""
    if spec.bootstrap == "copy":
        place = (str(store.absolute()), carrier.digest.hex, FOLDER)
        return Program(argv=(PYTHON, "-I", "-m", "mlops_deploy.cli.bootstrap", *place), env={})
    files = files_on_node(spec.registry)
    env = pull_environment(
        spec.registry,
        job_carrier(spec, carrier),
        volume=f"{FOLDER}/models",
        credentials=files.get(CREDENTIALS),
        ca=files.get(CA),
    )
    return Program(argv=(PYTHON, "-I", "-m", PROGRAM), env=env)
