"""The direction of dependencies: cli → api → ports → pure core → spec → errors, adapters plugged in from the side."""

import ast
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = "mlops_deploy"

CORE = {"config", "oci", "store", "compat", "render", "server", "release", "observe"}
ALLOWED = {
    "errors": set(),
    "resources": set(),
    "spec": {"errors"},
    "config": {"spec", "errors", "resources"},
    "oci": {"spec", "errors"},
    "store": {"oci", "spec", "errors"},
    "compat": {"spec", "errors"},
    "render": {"spec", "errors", "resources"},
    "server": {"spec", "errors", "resources"},
    "release": {"spec", "errors"},
    "observe": {"spec", "errors"},
    "ports": {"release", "oci", "spec", "errors"},
    "adapters": {
        "ports",
        "release",
        "render",
        "oci",
        "store",
        "spec",
        "errors",
        "resources",
        "adapters.faults",
        "adapters.network",
        "adapters.registry.addresses",
        "adapters.registry.hosts",
        "adapters.process",
        "adapters.keeper",
        "adapters.keeper_exec",
        "adapters.docker_engine",
    },
    "api": CORE | {"ports", "spec", "errors", "resources"},
    "cli": CORE | {"api", "ports", "spec", "errors", "resources"},
    "__main__": {"cli"},
    "__init__": set(),
}
EXTRA = {"cli.wiring": {"adapters"}, "cli.puller": {"adapters.process", "adapters.registry"}}

ONLY_IN = {
    "docker": ("adapters",),
    "nomad": ("adapters.nomad",),
    "websocket": ("adapters.nomad",),
    "requests": ("adapters",),
    "urllib3": ("adapters",),
    "click": ("cli",),
    "rich": ("cli",),
    "jinja2": ("render",),
    "yaml": ("config", "render"),
    "subprocess": ("adapters.process",),
}

# Same input, same output: no clock, no chance, no environment, no output of their own.
PURE = (
    "errors",
    "spec",
    "config",
    "render",
    "release",
    "oci.packing",
    "oci.metadata",
    "oci.types",
    "oci.tar",
    "oci.image",
)
BLOCKS = (ast.stmt, ast.ExceptHandler, ast.match_case)
IMPURE_MODULES = {"time", "random", "secrets", "uuid", "socket", "threading"}
IMPURE_NAMES = {
    "print", "input", "os.environ", "os.getenv", "os.urandom",
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "datetime.datetime.now",
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One import statement; `eager` ones run when the module is loaded."""

    module: str
    target: str
    line: int
    eager: bool


def part(module: str) -> str:
    """`config` for `mlops_deploy.config.load`."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def below(module: str) -> str:
    return module.removeprefix(f"{OURS}.")


def within(module: str, names: tuple[str, ...] | set[str]) -> bool:
    return any(below(module) == name or below(module).startswith(f"{name}.") for name in names)


def modules(root: Path) -> dict[str, Path]:
    found = {}
    for path in sorted((root / OURS).rglob("*.py")):
        pieces = path.relative_to(root).with_suffix("").parts
        if "_bundled" not in pieces:
            found[".".join(pieces).removesuffix(".__init__")] = path
    return found


def imports(module: str, path: Path, known: set[str]) -> Iterator[Import]:
    yield from _imports(module, ast.parse(path.read_text(encoding="utf-8")).body, known, eager=True)


def _imports(module: str, body: Sequence[ast.AST], known: set[str], *, eager: bool) -> Iterator[Import]:
    for node in body:
        match node:
            case ast.Import(names=names):
                yield from (Import(module, name.name, node.lineno, eager) for name in names)
            case ast.ImportFrom(module=target, names=names, level=0):
                for name in names:
                    inner = f"{target}.{name.name}"
                    yield Import(module, inner if inner in known else str(target), node.lineno, eager)
            case ast.ImportFrom():
                yield Import(module, f"{OURS}.relative", node.lineno, eager)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _imports(module, node.body, known, eager=False)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _imports(module, node.body, known, eager=False)
            case _:
                inner_body = [child for child in ast.iter_child_nodes(node) if isinstance(child, BLOCKS)]
                yield from _imports(module, inner_body, known, eager=eager)


@cache
def graph(root: Path) -> list[Import]:
    files = modules(root)
    return [found for module, path in files.items() for found in imports(module, path, set(files))]


def wrong_directions(root: Path) -> list[str]:
    """Every import of ours that goes against the arrow."""
    problems = []
    for one in graph(root):
        if one.target.split(".")[0] != OURS or part(one.module) == part(one.target) != "adapters":
            continue
        own = {package} if (package := below(one.module).rpartition(".")[0]) != "adapters" else set()
        allowed = ALLOWED.get(part(one.module), set()) | EXTRA.get(below(one.module), set()) | own
        if one.target != OURS and not within(one.target, allowed):
            problems.append(
                f"{one.module}:{one.line} imports {one.target}; `{part(one.module)}` may import {sorted(allowed)}"
            )
    return problems


def misplaced_libraries(root: Path) -> list[str]:
    """Every SDK outside the one place that may know it."""
    return [
        f"{one.module}:{one.line} imports {one.target}; only {ONLY_IN[library]} may"
        for one in graph(root)
        if (library := one.target.split(".")[0]) in ONLY_IN and not within(one.module, ONLY_IN[library])
    ]


def impurities(root: Path) -> list[str]:
    """Every clock, chance, environment or print in a package that promises to have none."""
    problems = [
        f"{one.module}:{one.line} imports {one.target}"
        for one in graph(root)
        if within(one.module, PURE) and one.target in IMPURE_MODULES
    ]
    for module, path in modules(root).items():
        if within(module, PURE):
            names = (
                node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name | ast.Attribute)
            )
            problems += [
                f"{module}:{node.lineno} uses {used}" for node in names if (used := ast.unparse(node)) in IMPURE_NAMES
            ]
    return problems


def eager_chains(root: Path, start: str, foreign: set[str]) -> list[str]:
    """How loading `start` alone reaches a library outside the standard one, as a chain of imports."""
    eager: dict[str, list[Import]] = {}
    for one in graph(root):
        if one.eager:
            eager.setdefault(one.module, []).append(one)
    reached, waiting, chains = {start: start}, deque([start]), []
    while waiting:
        module = waiting.popleft()
        for one in eager.get(module, []):
            chain = f"{reached[module]} → {one.target} (line {one.line})"
            if one.target.split(".")[0] in foreign:
                chains.append(chain)
            elif one.target.startswith(OURS) and one.target not in reached:
                reached[one.target] = chain
                waiting.append(one.target)
    return chains


def test_imports_go_one_way() -> None:
    assert wrong_directions(ROOT) == []


def test_libraries_stay_in_their_place() -> None:
    assert misplaced_libraries(ROOT) == []


def test_pure_packages_are_pure() -> None:
    assert impurities(ROOT) == []


@pytest.mark.parametrize("start", [module for module in modules(ROOT) if part(module) == "cli"])
def test_commands_load_click_alone(start: str) -> None:
    assert eager_chains(ROOT, start, set(ONLY_IN) - {"click", "subprocess"}) == []


def test_every_package_has_a_place() -> None:
    assert {part(module) for module in modules(ROOT) if module != OURS} <= set(ALLOWED)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A small tree with one violation of each rule."""
    files = {
        "spec/deploy.py": "from mlops_deploy.config import load\n",
        "config/load.py": "import os\n\ndef f():\n    import mlops_deploy.api.build\n    return os.environ\n",
        "api/build.py": "from mlops_deploy.adapters.docker import Engine\nimport docker.errors\n",
        "adapters/docker.py": "import docker\nfrom mlops_deploy.adapters import other\nfrom . import other\n",
        "adapters/other.py": "from mlops_deploy.config.load import f\nimport subprocess\n",
        "cli/main.py": "from mlops_deploy.cli import run\n",
        "cli/run.py": "try:\n    import mlops_deploy.api.build\nexcept ImportError:\n    import rich\n",
        "cli/wiring.py": "def engine():\n    from mlops_deploy.adapters.docker import Engine\n",
        "render/text.py": "from datetime import datetime\nimport time\nprint(datetime.now())\n",
    }
    for name, text in files.items():
        path = tmp_path / OURS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_planted_violations_are_found(planted: Path) -> None:
    wrong = [line.partition(";")[0] for line in wrong_directions(planted)]
    assert wrong == [
        "mlops_deploy.adapters.docker:2 imports mlops_deploy.adapters.other",
        "mlops_deploy.adapters.docker:3 imports mlops_deploy.relative",
        "mlops_deploy.adapters.other:1 imports mlops_deploy.config.load",
        "mlops_deploy.api.build:1 imports mlops_deploy.adapters.docker",
        "mlops_deploy.config.load:4 imports mlops_deploy.api.build",
        "mlops_deploy.spec.deploy:1 imports mlops_deploy.config.load",
    ]
    assert [line.partition(";")[0] for line in misplaced_libraries(planted)] == [
        "mlops_deploy.adapters.other:2 imports subprocess",
        "mlops_deploy.api.build:2 imports docker.errors",
    ]
    assert impurities(planted) == [
        "mlops_deploy.render.text:2 imports time",
        "mlops_deploy.config.load:5 uses os.environ",
        "mlops_deploy.render.text:3 uses print",
        "mlops_deploy.render.text:3 uses datetime.now",
    ]
    start = "mlops_deploy.cli.main → mlops_deploy.cli.run (line 1)"
    assert eager_chains(planted, "mlops_deploy.cli.main", {"docker", "rich"}) == [
        f"{start} → rich (line 4)",
        f"{start} → mlops_deploy.api.build (line 2) → docker.errors (line 2)",
        f"{start} → mlops_deploy.api.build (line 2) → mlops_deploy.adapters.docker (line 1) → docker (line 1)",
    ]
