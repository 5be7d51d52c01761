"""The store's `index.json`: which name means which image now. Entries that others wrote stay as they are."""

import json
from collections.abc import Sequence
from pathlib import Path

from mlops_deploy.errors import DeployError
from mlops_deploy.oci.types import REF_NAME, Blob, Descriptor, JsonDict
from mlops_deploy.spec.refs import ImageRef


def read(path: Path) -> JsonDict:
    """The document, an empty one where there is no file; raise `DeployError` for anything but an image index."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {"schemaVersion": 2, "manifests": []}
    except (OSError, ValueError) as error:
        raise _unreadable(path) from error
    if not isinstance(document, dict) or not isinstance(found := document.get("manifests"), list):
        raise _unreadable(path)
    if not all(isinstance(entry, dict) for entry in found):
        raise _unreadable(path)
    return document


def entries(index: JsonDict) -> list[tuple[str | None, str]]:
    """Name, if it has one, and digest of each entry, in the order in which they were written."""
    return [(_name(entry), str(entry.get("digest"))) for entry in _manifests(index)]


def renamed(index: JsonDict, names: Sequence[ImageRef], target: Descriptor) -> bytes:
    """The document with `names` at `target`, wherever they were before."""
    taken = {str(name) for name in names}
    kept = [entry for entry in _manifests(index) if _name(entry) not in taken]
    added = [target.as_json(annotations={REF_NAME: str(name)}) for name in names]
    return Blob.of_json("application/json", {**index, "schemaVersion": 2, "manifests": kept + added}).data


def _manifests(index: JsonDict) -> list[JsonDict]:
    found = index["manifests"]
    return found if isinstance(found, list) else []


def _name(entry: JsonDict) -> str | None:
    annotations = entry.get("annotations")
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else None


def _unreadable(path: Path) -> DeployError:
    return DeployError(
        f"`{path}` cannot be read as an image index",
        hint="restore it, or move it away: the next build writes a new one, and names move to what is built then",
    )
