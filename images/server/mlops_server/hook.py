"""The user's own steps around a model: a Python file with any of `preprocess`, `predict`, `postprocess`."""

import functools
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlops_server.ending import Signalled

_STEPS: Final = {"preprocess": 2, "predict": 2, "postprocess": 2}


class HookError(Exception):
    """The hook file cannot be used."""

    exit_code = 78


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """The steps that the hook file defines; None keeps the server's own."""

    preprocess: Callable[[Any, dict[str, str]], Any] | None = None
    predict: Callable[[Any, Any], Any] | None = None
    postprocess: Callable[[Any, dict[str, str]], Any] | None = None

    @property
    def steps(self) -> list[str]:
        """The names of the steps that there are."""
        return [name for name in _STEPS if getattr(self, name) is not None]


def load_hook(path: str | None) -> Hook:
    """Run the file at `path` and take its steps; no path, no steps. Raises `HookError` with the reason."""
    if not path:
        return Hook()
    module = _run(Path(path))
    steps = {name: getattr(module, name) for name in _STEPS if hasattr(module, name)}
    if not steps:
        raise HookError(f"hook `{path}` defines none of {', '.join(f'`{name}`' for name in _STEPS)}")
    for name, step in steps.items():
        _check(path, name, step)
    return Hook(**{name: _staying(name, step) for name, step in steps.items()})


def _run(path: Path) -> object:
    spec = importlib.util.spec_from_file_location("mlops_hook", path)
    if spec is None or spec.loader is None:
        raise HookError(f"hook `{path}` is not a Python file: its name must end in `.py`")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Signalled:
        raise
    except (Exception, SystemExit) as error:
        raise HookError(f"hook `{path}` cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _staying(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
    """`step`, whose `sys.exit` fails its request and not the server."""

    @functools.wraps(step)
    def stay(*arguments: Any) -> Any:  # noqa: ANN401 - the step's own
        try:
            return step(*arguments)
        except SystemExit as error:
            raise RuntimeError(f"`{name}` of the hook called `exit`") from error

    return stay


def _check(path: str, name: str, step: object) -> None:
    if not callable(step) or inspect.iscoroutinefunction(step):
        raise HookError(f"`{name}` in hook `{path}` must be a plain function")
    try:
        inspect.signature(step).bind(*range(_STEPS[name]))
    except TypeError as error:
        raise HookError(f"`{name}` in hook `{path}` must take {_STEPS[name]} arguments") from error
