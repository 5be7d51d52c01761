"""Where job templates and image recipes are: the only code that knows.

A wheel carries them below `mlops_deploy/_bundled`; a checkout (also an editable install) has them at its top level.
"""

from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent


def _folder(name: str) -> Path:
    bundled = _HERE / "_bundled" / name
    return bundled if bundled.is_dir() else _HERE.parent / name


JOBS: Final = _folder("jobs")
IMAGES: Final = _folder("images")
