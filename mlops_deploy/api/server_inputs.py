"""What a server image is made of, and the name that follows from it: told from files alone, no engine is asked."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

from mlops_deploy.config.preset import find_preset
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.resources import IMAGES
from mlops_deploy.spec.deploy import ServerSpec
from mlops_deploy.spec.preset import Preset
from mlops_deploy.spec.refs import SHORT, ImageRef
from mlops_deploy.spec.secret import Secret

_STEPS: Final = ("preprocess", "predict", "postprocess")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerBuild:
    """What a server image is made of; `index_url` and `ca_bundle` say where packages come from, not what they are."""

    preset: Preset
    base: str | None = None
    hook: Path | None = None
    constraints: Path | None = None
    tag: ImageRef | None = None
    index_url: Secret | None = None
    ca_bundle: Path | None = None

    @property
    def recipe(self) -> Path:
        """The folder of the Dockerfile; raises `UnusableInputError` for a preset whose image is pulled."""
        if self.preset.build is None:
            raise UnusableInputError(
                f"preset `{self.preset.name}` runs the image `{self.preset.image}`: there is nothing to build",
                hint="name a preset that is built, such as `kserve-sklearn`, or go on with `mlops-deploy render`",
            )
        return IMAGES / self.preset.build


def configured(preset: Preset, server: ServerSpec) -> ServerBuild:
    """What `server` of a configuration says, and nothing else."""
    return ServerBuild(preset=preset, base=server.base, hook=server.hook, constraints=server.constraints)


def known_preset(name: str) -> Preset:
    """The shipped preset `name`."""
    return find_preset(name, IMAGES / "presets")


def server_tag(build: ServerBuild) -> ImageRef:
    """The name that an image of these inputs gets: told from files alone, so that no engine need be asked."""
    default = f"mlops-server-{build.preset.name}"
    if build.tag is None:
        return ImageRef(name=default, tag=inputs_digest(build)[:SHORT])
    return build.tag if build.tag.tag else replace(build.tag, tag=inputs_digest(build)[:SHORT])


def inputs_digest(build: ServerBuild) -> str:
    """sha256 over the recipe's files, the hook, the constraints and the name of the base, as 64 hex digits."""
    files = recipe_hashes(build.recipe)
    if build.constraints is not None:
        files["constraints.txt"] = _sha256(build.constraints)
    hook = None if build.hook is None else _sha256(build.hook)
    inputs = {"base": build.base, "files": files, "hook": hook}
    return sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def recipe_hashes(folder: Path) -> dict[str, str]:
    """The sha256 of every file of a recipe, by its path in the folder."""
    return {str(path.relative_to(folder)): _sha256(path) for path in _recipe_files(folder)}


def check_inputs(build: ServerBuild) -> None:
    """Raise `UnusableInputError` for the first file or address that cannot be used."""
    for what, path in (("hook", build.hook), ("constraints file", build.constraints), ("CA bundle", build.ca_bundle)):
        if path is not None and not path.is_file():
            raise UnusableInputError(f"{what} `{path}` is not a file", hint="name a file that is there")
    if build.hook is not None:
        _check_hook(build.hook)
    if build.ca_bundle is not None and b"-----BEGIN" not in build.ca_bundle.read_bytes():
        raise UnusableInputError(
            f"CA bundle `{build.ca_bundle}` holds no certificate in PEM form",
            hint="`openssl x509 -inform der -in FILE -out FILE.pem` gives it that form",
        )
    if build.index_url is not None and not re.fullmatch(r"https?://[^\s\x00-\x1f]+", build.index_url.reveal()):
        raise UnusableInputError("the index URL is not one", hint="expected `https://…/simple`")


def _check_hook(path: Path) -> None:
    """Refuse what can be told without running it; the built image then loads it for real."""
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{path}:{line}" if line else str(path)
        raise UnusableInputError(
            f"hook `{where}` is not Python: {getattr(error, 'msg', error)}",
            hint="correct that line, or name another file with `--hook` or `server.hook`",
        ) from error
    if not set(_STEPS) & set(_names(tree)):
        steps = ", ".join(f"`{name}`" for name in _STEPS)
        raise UnusableInputError(f"hook `{path}` defines none of {steps}", hint="any one of them will do")


def _names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name for alias in aliases)
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case _:
                pass


def _recipe_files(folder: Path) -> list[Path]:
    """What the image is made of: not the reader's files, not what Python or an editor left behind."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in {".md", ".pyc"})
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
