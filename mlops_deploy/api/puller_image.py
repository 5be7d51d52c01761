"""The image of a bootstrap that pulls: the modules that this needs and urllib3, on the base of the other images."""

import ast
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mlops_deploy.api.build_server import choose_base
from mlops_deploy.api.made_image import find_or_make, made_of
from mlops_deploy.api.server_inputs import recipe_hashes
from mlops_deploy.ports import Engine, ImageBuilder, Story
from mlops_deploy.resources import IMAGES
from mlops_deploy.spec.recipe import Recipe
from mlops_deploy.spec.refs import ImageRef
from mlops_deploy.spec.registry import RegistrySpec
from mlops_deploy.spec.rendered import JobImage

RECIPE: Final = IMAGES / "puller"
NAME: Final = "mlops-puller"
PROGRAM: Final = "mlops_deploy.cli.puller"
"""The module that the image runs, and a slot without an engine too."""

_OURS: Final = "mlops_deploy"
_LIBRARY: Final = "urllib3"


def puller_image(registry: RegistrySpec) -> JobImage:
    """The image that a job names: the configured one, else the one that a release builds here."""
    if registry.puller is not None:
        return JobImage(ref=registry.puller, local=False)
    return JobImage(ref=str(puller_tag()), local=True)


def find_or_build(engine: Engine, builder: ImageBuilder, story: Story) -> JobImage:
    """The image under its name in the engine; built first where the engine has none."""
    tag = puller_tag()
    return find_or_make(engine, tag, lambda: _build(tag, builder, story))


@cache
def puller_tag() -> ImageRef:
    """`mlops-puller:<12 hex over its files>`: told without asking an engine."""
    hashes = {name: sha256(path.read_bytes()).hexdigest() for name, path in program().items()}
    return made_of(NAME, recipe_hashes(RECIPE) | hashes)


def program() -> Mapping[str, Path]:
    """The files of the program by their places in the image: what `PROGRAM` imports of ours, and the library."""
    ours = _folder(_OURS)
    files = {f"{_OURS}/{path.relative_to(ours)}": path for path in _imported(ours)}
    library = _folder(_LIBRARY)
    files |= {f"{_LIBRARY}/{path.relative_to(library)}": path for path in library.rglob("*.py")}
    return dict(sorted(files.items()))


def _build(tag: ImageRef, builder: ImageBuilder, story: Story) -> None:
    base, _ = choose_base(None, builder, story)
    story.say(f"building `{tag}` on `{base}`")
    with tempfile.TemporaryDirectory(prefix="mlops-deploy-") as folder:
        for name, path in program().items():
            place = Path(folder) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        contexts = {"program": Path(folder)}
        builder.build(Recipe(context=RECIPE, args={"BASE": base}, contexts=contexts, tag=tag), lambda _line: None)
    if (facts := builder.facts(str(tag))) is not None:
        story.say(f"built `{tag}`: {facts.size / 1e6:,.0f} MB, nearly all of it layers of `{base}`")


def _folder(package: str) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise AssertionError(f"`{package}` is not installed")
    return Path(found.origin).parent


def _imported(ours: Path) -> set[Path]:
    """The modules that `PROGRAM` can come to import, with the packages that they are in."""
    waiting, found = [PROGRAM], set[Path]()
    while waiting:
        module = waiting.pop()
        parent = module.rpartition(".")[0]
        path = _module(ours, module)
        if path is not None and path not in found:
            found.add(path)
            waiting += _imports(ast.parse(path.read_bytes()))
        if parent:
            waiting += [parent] if _module(ours, parent) not in found else []
    return found


def _module(ours: Path, name: str) -> Path | None:
    """The file of a module of ours; None for what is none."""
    first, _, rest = name.partition(".")
    place = ours.joinpath(*rest.split(".")) if rest else ours
    if first != _OURS:
        return None
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _imports(node: ast.AST) -> Iterator[str]:
    """What is imported anywhere below `node`, what only a type checker reads left out."""
    match node:
        case ast.Import(names=names):
            yield from (name.name for name in names)
        case ast.ImportFrom(module=str(module), names=names):
            yield from (module, *(f"{module}.{name.name}" for name in names))
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            pass
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _imports(child)
