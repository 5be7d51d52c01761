"""From a model file to an object with `predict`: the one place where what is in a file may run."""

import logging
import warnings
from pathlib import Path
from typing import Any, assert_never

from mlops_server.formats import ModelFile, ModelFileError

_log = logging.getLogger("mlops_server")


def load(file: ModelFile) -> Any:  # noqa: ANN401 - an estimator has no type of its own
    """Read the object that `file` holds; raise `ModelFileError` with the reason when it cannot be read."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            return _read(file)
        except ModelFileError:
            raise
        except (Exception, SystemExit) as error:  # what is in a file may well call `sys.exit`
            reason = f"{type(error).__name__}: {error}"
            raise ModelFileError(f"`{file.path.name}` ({file.format}) cannot be read: {reason}") from error
        finally:
            for line in dict.fromkeys(_line(warning.message) for warning in told):
                _log.warning("%s", line)


def _line(warning: Warning | str) -> str:
    """What to log; scikit-learn's warning of another version, one per estimator, becomes the same line for them all."""
    written, here = (getattr(warning, f"{which}_sklearn_version", None) for which in ("original", "current"))
    if written is None or here is None:
        return str(warning)
    advice = "predictions may differ; train it again, or build the server with that version"
    return f"the model was written with scikit-learn {written}, this server has {here}: {advice}"


def _read(file: ModelFile) -> Any:  # noqa: ANN401 - as above
    match file.format:
        case "joblib" | "pickle":
            import joblib  # noqa: PLC0415 - a heavy import that only this branch needs

            return joblib.load(file.path)
        case "skops":
            return _read_skops(file.path)
        case _:
            assert_never(file.format)


def _read_skops(path: Path) -> Any:  # noqa: ANN401 - as above
    """Load with the types that skops trusts by itself and scikit-learn's own; any other type refuses the file."""
    from skops import io  # noqa: PLC0415 - as above

    unknown = io.get_untrusted_types(file=path)
    refused = [name for name in unknown if not name.startswith("sklearn.")]
    if refused:
        names = ", ".join(f"`{name}`" for name in refused)
        raise ModelFileError(f"`{path.name}` (skops) holds types that are not trusted: {names}")
    return io.load(path, trusted=unknown)
