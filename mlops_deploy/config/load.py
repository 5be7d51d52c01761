"""From a file and an environment to a frozen `DeploySpec`: read → parse → lay over → validate everything → build."""

from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from mlops_deploy.config import keys
from mlops_deploy.config.fields import At, Values, found
from mlops_deploy.config.golden import read_golden
from mlops_deploy.config.issues import Issue, Issues
from mlops_deploy.config.kubernetes_keys import KUBERNETES, kubernetes_spec
from mlops_deploy.config.marks import Mapping, Node, Scalar, parse
from mlops_deploy.config.nomad_keys import NOMAD, mistakes, nomad_spec
from mlops_deploy.config.overlay import lay_over, overlay_path
from mlops_deploy.config.read import is_there, read
from mlops_deploy.config.registry_keys import BOOTSTRAP, REGISTRY, registry_spec
from mlops_deploy.resources import IMAGES
from mlops_deploy.spec.deploy import (
    DeploySpec,
    GoldenRequest,
    ModelSpec,
    Ready,
    ReleaseSpec,
    Resources,
    ServerSpec,
    WebModel,
)
from mlops_deploy.spec.refs import is_model_name

PRESETS: Final = IMAGES / "presets"

_LABEL: Final = 63
"""Characters of one label of a DNS name (RFC 1035)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What one look at a configuration found; `spec` is there when no issue is an error."""

    spec: DeploySpec | None
    issues: tuple[Issue, ...]
    files: tuple[Path, ...]


def load(path: Path, environment: str | None) -> DeploySpec:
    """The service that `path`, with its overlay for `environment`, describes.

    Raises one `ConfigError` that shows every mistake of the file, the overlay and the golden requests.
    """
    return load_with_files(path, environment)[0]


def load_with_files(path: Path, environment: str | None, *, named: bool = True) -> tuple[DeploySpec, tuple[Path, ...]]:
    """The same, and the files that were read: the configuration first.

    Without `named` the files that it names are not looked at, golden requests among them: whoever releases nothing
    needs none of them, and what is wrong with them today must not keep anybody from going back.
    """
    issues = Issues()
    spec, files = _load(path, environment, issues, named=named)
    issues.raise_errors(keys.SECTIONS)
    if spec is None:
        raise AssertionError("no spec although nothing was reported")
    return spec, files


def examine(path: Path, environment: str | None) -> Examined:
    """The same for somebody who wants to see warnings too; raises `ConfigError` only for files that cannot be read."""
    issues = Issues()
    spec, files = _load(path, environment, issues)
    return Examined(spec=None if issues.errors else spec, issues=issues.all, files=files)


def _load(
    path: Path, environment: str | None, issues: Issues, *, named: bool = True
) -> tuple[DeploySpec | None, tuple[Path, ...]]:
    over = None if environment is None else overlay_path(path, environment)
    base = _root(path, issues)
    above = None if over is None else _root(over, issues, may_be_empty=True)
    layers = [layer for layer in (base, above) if layer is not None]
    at = At(issues, path.parent.resolve(), files=named)
    if over is not None:
        for layer in layers:
            keys.TABLE.decode(layer, replace(at, partial=True))
    files = (path,) if over is None else (path, over)
    if base is None or len(layers) < len(files):
        return None, files
    whole = base if above is None else lay_over(base, above)
    _same_service(base, above, issues)
    values = keys.TABLE.decode(whole, at)
    return (None, files) if values is None else _complete(values, whole, at, environment, files)


def _root(path: Path, issues: Issues, *, may_be_empty: bool = False) -> Mapping | None:
    source = read(path, issues)
    node = None if source is None else parse(source, issues)
    match node:
        case None | Mapping():
            return node
        case Scalar(kind="empty") if may_be_empty:
            return Mapping((), node.mark)
        case _:
            message = f"`{path}` must be a map with `service` and `model`"
            hint = f"found {found(node)}; `mlops-deploy docs --example` prints a complete one"
            issues.add(Issue(mark=node.mark, path=(), message=message, hint=hint))
            return None


def _same_service(base: Mapping, above: Mapping | None, issues: Issues) -> None:
    below, over = _at(base, "service"), above and _at(above, "service")
    if isinstance(below, Scalar) and isinstance(over, Scalar) and below.text != over.text:
        hint = f"`{below.text[:80]}` is the service of {below.mark}; an overlay cannot be for another"
        issues.add(Issue(mark=over.mark, path=("service",), message="this overlay names another service", hint=hint))


def _complete(
    values: Values, whole: Mapping, at: At, environment: str | None, files: tuple[Path, ...]
) -> tuple[DeploySpec | None, tuple[Path, ...]]:
    """Read what the configuration names, check what no single key can tell, and build."""
    golden = values[keys.READY][keys.GOLDEN]
    requests: tuple[GoldenRequest, ...] = ()
    if golden is not None and at.files:
        shown = _shown(golden, at.folder, files[0])
        requests, files = read_golden(shown, at.issues), (*files, shown)
    _check_names(values[keys.SERVICE], environment, whole, at)
    _check_model(values, whole, at)
    _check_preset(values[keys.PRESET], whole, at)
    _check_nomad(values, whole, at)
    if _at(whole, "ready", "golden") is None:
        hint = "name a file of requests with known answers at `ready.golden`"
        _warn(whole, ("service",), "predictions are not checked before a server counts as ready", hint, at)
    return (None if at.issues.errors else _spec(values, requests, at.folder, environment)), files


def _shown(path: Path, folder: Path, base: Path) -> Path:
    """Messages name a file the way its user named the configuration: relative stays relative."""
    return base.parent / path.relative_to(folder) if path.is_relative_to(folder) else path


def _check_names(service: str, environment: str | None, whole: Mapping, at: At) -> None:
    """`<service>-<env>-a` is the name by which a slot's server is looked up: one label of a DNS name."""
    if service and environment and len(f"{service}-{environment}-a") > _LABEL:
        node = _at(whole, "service") or whole
        hint = f"both together may have {_LABEL - 3} characters; they have {len(service) + len(environment)}"
        at.child("service").wrong(node.mark, f"`{service}` is too long beside the environment `{environment}`", hint)


def _check_model(values: Values, whole: Mapping, at: At) -> None:
    model, service = values[keys.MODEL], values[keys.SERVICE]
    if service and model[keys.MODEL_NAME] is None and not is_model_name(service):
        node = _at(whole, "service") or whole
        hint = "give the model another name at `model.name`"
        at.child("service").wrong(node.mark, f"`{service}` cannot name the model too", hint)
    path = model[keys.MODEL_PATH]
    if model[keys.MODEL_SHA256] is not None and isinstance(path, Path):
        hint = "remove it: the carrier holds the hash of every file"
        _warn(whole, ("model", "sha256"), "it is for a model behind `https://`", hint, at)
    if isinstance(path, Path) and not is_there(path):
        _warn(
            whole, ("model", "path"), f"there is no model at `{path}`", "`build-model` needs it, `render` does not", at
        )


def _check_preset(name: str, whole: Mapping, at: At) -> None:
    names = sorted(path.stem for path in PRESETS.glob("*.yml"))
    node = _at(whole, "preset")
    if node is not None and name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"there is {', '.join(f'`{one}`' for one in names)}"
        at.child("preset").wrong(node.mark, f"there is no preset `{name}`", hint)


def _check_nomad(values: Values, whole: Mapping, at: At) -> None:
    for path, message, hint in mistakes(nomad_spec(values[NOMAD]), values[keys.RESOURCES][keys.MEMORY]):
        node = _at(whole, "nomad", *path) or _at(whole, "nomad") or whole
        At(at.issues, at.folder, ("nomad", *path)).wrong(node.mark, message, hint)


def _warn(whole: Mapping, path: tuple[str, ...], message: str, hint: str, at: At) -> None:
    node = _at(whole, *path) or whole
    issue = Issue(mark=node.mark, path=path, message=message, hint=hint, severity="warning")
    at.issues.add(issue)


def _at(node: Node, *path: str) -> Node | None:
    for part in path:
        if not isinstance(node, Mapping):
            return None
        inside = {key.text: value for key, value in node.entries}
        if part not in inside:
            return None
        node = inside[part]
    return node


def _spec(values: Values, golden: tuple[GoldenRequest, ...], root: Path, environment: str | None) -> DeploySpec:
    model, server, resources = values[keys.MODEL], values[keys.SERVER], values[keys.RESOURCES]
    ready, release = values[keys.READY], values[keys.RELEASE]
    service, env = values[keys.SERVICE], values[keys.ENV]
    path = model[keys.MODEL_PATH]
    if path is None:
        raise AssertionError("a required key is missing although nothing was reported")
    web = WebModel(url=path, sha256=model[keys.MODEL_SHA256]) if isinstance(path, str) else None
    return DeploySpec(
        root=root,
        service=service,
        environment=environment,
        model=ModelSpec(
            path=path if isinstance(path, Path) else root / ".mlops" / "web" / (web.file if web else ""),
            web=web,
            name=model[keys.MODEL_NAME] or service,
            requires=model[keys.MODEL_REQUIRES],
            licence=model[keys.MODEL_LICENCE],
            signature=model[keys.MODEL_SIGNATURE],
        ),
        preset=values[keys.PRESET],
        server=ServerSpec(
            image=server[keys.SERVER_IMAGE],
            base=server[keys.SERVER_BASE],
            hook=server[keys.SERVER_HOOK],
            constraints=server[keys.SERVER_CONSTRAINTS],
        ),
        target=values[keys.TARGET],
        port=values[keys.PORT],
        env=env,
        resources=Resources(cpu=resources[keys.CPU], memory=resources[keys.MEMORY]),
        user=values[keys.USER],
        ready=Ready(golden=golden, deadline=ready[keys.READY_DEADLINE]),
        release=ReleaseSpec(
            strategy=release[keys.STRATEGY],
            bake=release[keys.BAKE],
            drain=release[keys.DRAIN],
            deadline=release[keys.RELEASE_DEADLINE],
        ),
        compat=values[keys.COMPAT],
        bootstrap=values[BOOTSTRAP],
        registry=registry_spec(values[REGISTRY]),
        nomad=nomad_spec(values[NOMAD]),
        kubernetes=kubernetes_spec(values[KUBERNETES]),
    )
