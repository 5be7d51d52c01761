"""The router's image: built once per set of inputs, and found by its name from then on."""

from pathlib import Path
from typing import Final

from mlops_deploy.api.build_server import choose_base
from mlops_deploy.api.made_image import find_or_make, made_of
from mlops_deploy.api.server_inputs import recipe_hashes
from mlops_deploy.errors import DeployError, UnreachableError
from mlops_deploy.ports import Engine, ImageBuilder, Runner, Story
from mlops_deploy.resources import IMAGES
from mlops_deploy.spec.nomad import NomadSpec
from mlops_deploy.spec.recipe import Recipe
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.spec.rendered import JobImage
from mlops_deploy.spec.secret import Secret

RECIPE: Final = IMAGES / "router"
NAME: Final = "mlops-router"
SUITE: Final = "bookworm"
"""The Debian of the base: a machine of another one has no mirror of its packages."""

_CA_BUNDLE: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_OS_RELEASE: Final = Path("/etc/os-release")
_TARGETS: Final = (
    "apt-get", "indextargets", "--format", "deb $(REPO_URI) $(RELEASE) main",
    "Created-By: Packages", "Origin: Debian", "Component: main",
)  # fmt: skip
_SOON: Final = 20.0


def nomad_router_image(nomad: NomadSpec) -> JobImage:
    """The image that the router's job names: the configured one, else the one that a release builds here."""
    if nomad.router_image is not None:
        return JobImage(ref=nomad.router_image, local=False)
    return JobImage(ref=str(router_tag()), local=True)


def find_or_build(engine: Engine, builder: ImageBuilder, runner: Runner, story: Story) -> JobImage:
    """The image under its name in the engine; built first where the engine has none."""
    tag = router_tag()
    return find_or_make(engine, tag, lambda: _build(tag, builder, runner, story))


def router_tag() -> ImageRef:
    """`mlops-router:<12 hex over its files>`: told without asking an engine."""
    return made_of(NAME, recipe_hashes(RECIPE))


def _build(tag: ImageRef, builder: ImageBuilder, runner: Runner, story: Story) -> None:
    base, _ = choose_base(None, builder, story)
    story.say(f"building `{tag}` on `{base}`")
    recipe = Recipe(context=RECIPE, args={"BASE": base}, secrets=machine_secrets(runner), tag=tag)
    try:
        builder.build(recipe, lambda _line: None)
    except DeployError as error:
        if error.hint is None or "base image" in error.message or "engine" in error.message.lower():
            raise
        # A step has failed, and there is but one that can: what the builder says of a server's packages misleads here.
        hint = "the build installs Debian's `haproxy`: check the network and apt's mirrors, then run this again"
        raise UnreachableError("the router image could not be built", hint=hint, detail=error.detail) from error


def machine_secrets(runner: Runner) -> dict[str, Secret | Path]:
    """How this machine reaches Debian's packages, where it is a Debian of the same suite: mirrors, proxies, trust."""
    if not _is_debian(_OS_RELEASE):
        return {}
    targets = runner.run(_TARGETS, timeout=_SOON)
    sources = own_sources(targets.out)
    if targets.code != 0 or not sources:
        return {}
    settings = runner.run(("apt-config", "dump", "--format", '%F "%v";%n', "Acquire"), timeout=_SOON)
    lines = [settings.out] if settings.code == 0 else []
    lines += ['Dir::Etc::SourceList "/run/secrets/sources.list";', 'Dir::Etc::SourceParts "/dev/null";']
    # The user whom apt otherwise turns into cannot read what only root is given.
    lines += ['APT::Sandbox::User "root";']
    trust: dict[str, Secret | Path] = {}
    if _CA_BUNDLE.is_file():
        lines += ['Acquire::https::CAInfo "/run/secrets/ca.crt";']
        trust = {"ca.crt": _CA_BUNDLE}
    return {"apt.conf": Secret("\n".join(lines) + "\n"), "sources.list": Secret(sources), **trust}


def own_sources(targets: str) -> str:
    """The lines of apt's own mirrors for the base's suite, its updates and its security; empty without the suite."""
    wanted = {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}
    lines = [line for line in targets.splitlines() if len(line.split()) == 4 and line.split()[2] in wanted]  # noqa: PLR2004
    return "\n".join([*lines, ""]) if any(line.split()[2] == SUITE for line in lines) else ""


def _is_debian(os_release: Path) -> bool:
    if not os_release.is_file():
        return False
    facts = set(os_release.read_text(encoding="utf-8").splitlines())
    return "ID=debian" in facts and f"VERSION_CODENAME={SUITE}" in facts
