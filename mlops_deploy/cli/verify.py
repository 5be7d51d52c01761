"""`mlops-deploy verify`: recompute every digest, size and file hash of a carrier."""

import json
from pathlib import Path
from typing import Literal

import click

from mlops_deploy.cli import options
from mlops_deploy.cli.inspect import looked_up
from mlops_deploy.cli.project import find_project


@click.command("verify")
@click.argument("ref")
@options.store_folder
@options.insecure_registries
@options.config_file
@options.output
def verify(
    ref: str,
    *,
    store: Path | None,
    insecure_registries: tuple[str, ...],
    file: Path,
    environment: str | None,
    output: Literal["text", "json"],
) -> None:
    """Verify a carrier: recompute every digest, size and file hash; list all mismatches (exit code 12).

    REF is a name in the store (NAME, NAME:TAG, NAME@sha256:…, twelve digits of a digest or content id), an archive, or
    REGISTRY/NAME:TAG.
    """
    from mlops_deploy.api.carriers import verify_carrier

    found = looked_up(ref, find_project(file, environment).store(store), insecure_registries)
    carrier = verify_carrier(found)
    files = len(carrier.listing.files)
    if output == "json":
        result = {"digest": str(carrier.digest), "files": files, "verified": True, "registry": found.registry}
        click.echo(json.dumps(result))
    else:
        count = "1 file" if files == 1 else f"{files:,} files"
        click.echo(f"{carrier.digest} verifies: {count}, content {carrier.listing.content_id}")
