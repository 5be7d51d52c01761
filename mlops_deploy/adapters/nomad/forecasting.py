"""What a cluster says of a job beforehand, without registering it."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.differences import changes
from mlops_deploy.adapters.nomad.placement import obstacles, without_own_volume
from mlops_deploy.adapters.nomad.slot_job import SlotJob
from mlops_deploy.release.forecast import Forecast

Document = Mapping[str, Any]


def forecast(client: NomadClient, document: Document, *, instead_of: Document | None) -> Forecast:
    """Whether `document` could be placed now, and how it differs from the job that `instead_of` would change.

    `instead_of` is the same artefact under the name of a job that runs, `document` itself where the job is its own
    predecessor; None where there is no such job.
    """
    said = _plan(client, document)
    job = SlotJob.read(document)
    metrics = [without_own_volume(job, metric) for metric in (said.get("FailedTGAllocs") or {}).values()]
    against = said if instead_of is document else instead_of and _plan(client, instead_of)
    return Forecast(
        changes=changes(against["Diff"]) if against else (),
        obstacles=tuple(reason for metric in metrics if metric for reason in obstacles(job, metric)),
        warnings=tuple(_warnings(said.get("Warnings") or "")),
    )


def _plan(client: NomadClient, document: Document) -> Document:
    return client.plan(dict(document))


def _warnings(text: str) -> Sequence[str]:
    return [line.strip().removeprefix("* ") for line in text.splitlines() if line.strip().startswith("* ")]
