"""A model behind `https://`: looked at, pinned by its sha256, and read like any other."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlops_deploy.errors import ContentMismatchError, UnusableInputError
from mlops_deploy.oci.inventory import Inventory, remote_inventory
from mlops_deploy.ports import Story, Web
from mlops_deploy.spec.deploy import WebModel
from mlops_deploy.spec.url import shown_url
from mlops_deploy.store.lockfile import pinned_source


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSource:
    """The one file of a model behind a URL; `sha256` is what it must be, None where nobody has said that yet."""

    model: WebModel
    inventory: Inventory
    sha256: str | None

    @property
    def pins(self) -> dict[str, str]:
        """The sha256 of its file, by its path in the model; nothing where that is not known."""
        return {} if self.sha256 is None else {self.model.file: self.sha256}

    def require(self, *sums: str) -> None:
        """Raise `ContentMismatchError` when a file that was read is not the one that was pinned."""
        for found in sums:
            if self.sha256 in {None, found}:
                continue
            raise ContentMismatchError(
                f"`{shown_url(self.model.url)}` is not the file that it should be",
                detail=[f"  expected sha256: {self.sha256}", f"  found sha256:    {found}"],
                hint="if the new file is meant, name its hash at `model.sha256` or with `--sha256`",
            )


def look_at(model: WebModel, lock: Path | None, web: Web, story: Story) -> WebSource:
    """What is behind the URL now; its hash is the one that was given, else the one that `lock` pins."""
    if not model.file:
        raise UnusableInputError(
            f"`{shown_url(model.url)}` names no file", hint="a URL of a model ends with a file's name"
        )
    remote = web.look(model.url)
    pinned = model.sha256 or (None if lock is None else pinned_source(lock, shown_url(model.url)))
    if pinned is None:
        story.say(f"`{shown_url(model.url)}`: nothing says what it must hash to; what is found there is believed")
    return WebSource(
        model=model, inventory=remote_inventory(remote, model.file, partial(web.read, remote)), sha256=pinned
    )
