"""Configurations written for one test, and what is said about them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_deploy.config.load import Examined, examine

GOOD = "service: digits\nmodel: {path: m}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, so that messages show short names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def look(folder: Path) -> Callable[..., Examined]:
    """Examine a text as `mlops.yml`, or bytes, under another name, with overlays by keyword."""

    def examined(text: str | bytes, name: str = "mlops.yml", env: str | None = None, **overlays: str) -> Examined:
        raw = text if isinstance(text, bytes) else text.encode()
        (folder / name).write_bytes(raw)
        for environment, overlay in overlays.items():
            (folder / f"mlops.{environment}.yml").write_text(overlay, encoding="utf-8")
        return examine(Path(name), env)

    return examined
