"""What a cluster says of a job file that it has not been given: whether it reads, is valid, and could be placed."""

import json
from typing import Any

from mlops_deploy.adapters.nomad.client import NomadClient
from mlops_deploy.adapters.nomad.forecasting import forecast
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.release.forecast import Forecast

Document = dict[str, Any]


class JobChecker:
    """Asks one cluster; nothing is registered. See `ports.JobChecker`."""

    def __init__(self, client: NomadClient) -> None:
        self._client = client

    def check(self, text: str) -> Forecast:
        """See `ports.JobChecker`."""
        job = json.loads(text)["Job"] if text.startswith("{") else self._parsed(text)
        self._validate(job)
        return forecast(self._client, job, instead_of=None)

    def _parsed(self, text: str) -> Document:
        asked = {"JobHCL": text, "Canonicalize": True}
        job: Document = self._client.raw("POST", "jobs/parse", body=asked).body
        return job

    def _validate(self, job: Document) -> None:
        found = self._client.raw("POST", "validate/job", body={"Job": job}).body
        if mistakes := found.get("ValidationErrors") or ([found["Error"]] if found.get("Error") else []):
            raise UnusableInputError(
                f"the cluster refuses the job `{job['ID']}`: {_line(mistakes[0])}",
                detail=tuple(_line(mistake) for mistake in mistakes[1:]),
                hint="change what `mlops.yml` says about it",
            )


def _line(said: str) -> str:
    return " ".join(said.replace("* ", "").split())
