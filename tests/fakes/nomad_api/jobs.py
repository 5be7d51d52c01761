"""Jobs, and what becomes of them at once: an evaluation, a deployment, one running allocation for each count."""

from collections.abc import Iterator
from typing import Any

from tests.fakes.nomad_api.state import Refusal, State, new_id, now

PORT = 20000
_PREFIX = "Enforcing job modify index"


def register(state: State, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
    job = body["Job"]
    if namespace not in state.namespaces:
        raise Refusal(500, f'job "{job["ID"]}" is in nonexistent namespace "{namespace}"')
    if not job.get("TaskGroups"):
        raise Refusal(500, "1 error occurred:\n\t* Missing job task groups\n\n")
    before = state.jobs.get((namespace, job["ID"]))
    if body.get("EnforceIndex"):
        _enforce(before, body.get("JobModifyIndex", 0))
    changed = before is None or before["Stop"] or before["Spec"] != job
    index = state.touch("jobs", "evaluations", "deployments")
    known = {
        "CreateIndex": before["CreateIndex"] if before else index,
        "Version": 0 if before is None else before["Version"] + changed,
        "JobModifyIndex": index if changed or before is None else before["JobModifyIndex"],
    }
    whole = (
        job | known | {"Namespace": namespace, "Stop": False, "Status": "running", "Spec": job, "ModifyIndex": index}
    )
    state.jobs[namespace, job["ID"]] = whole
    if changed:
        _stop(state, namespace, job["ID"])
        _run(state, whole, state.touch("allocations", "services"))
    evaluation = _evaluated(state, whole, index)
    return {
        "EvalID": evaluation["ID"],
        "EvalCreateIndex": index,
        "JobModifyIndex": index,
        "Index": index,
        "Warnings": "",
    }


def plan(state: State, namespace: str, job: dict[str, Any]) -> dict[str, Any]:
    before = state.jobs.get((namespace, job["ID"]))
    kind = "Added" if before is None else "None" if before["Spec"] == job else "Edited"
    groups = [{"Name": one["Name"], "Type": kind} for one in job.get("TaskGroups") or ()]
    return {
        "Annotations": {"DesiredTGUpdates": {one["Name"]: {"Place": 1} for one in groups}},
        "Diff": {"Type": kind, "ID": job["ID"], "TaskGroups": groups, "Fields": None, "Objects": None},
        "FailedTGAllocs": None,
        "JobModifyIndex": before["JobModifyIndex"] if before else 0,
        "Warnings": "",
    }


def deregister(state: State, namespace: str, job_id: str, *, purge: bool) -> dict[str, Any]:
    job = state.jobs.get((namespace, job_id))
    if job is None:
        return {"EvalID": "", "JobModifyIndex": 0}
    index = state.touch("jobs", "evaluations", "allocations", "services")
    _stop(state, namespace, job_id)
    job |= {"Stop": True, "Status": "dead", "ModifyIndex": index, "JobModifyIndex": index}
    if purge:
        del state.jobs[namespace, job_id]
    return {"EvalID": _evaluated(state, job, index)["ID"], "JobModifyIndex": index}


def shown(job: dict[str, Any]) -> dict[str, Any]:
    """A job as it is read."""
    return {name: value for name, value in job.items() if name != "Spec"}


def allocations(state: State, namespace: str, job_id: str) -> list[dict[str, Any]]:
    job = state.jobs.get((namespace, job_id))
    found = [one for one in state.allocations.values() if (one["Namespace"], one["JobID"]) == (namespace, job_id)]
    return [one for one in found if job is None or one["Job"]["CreateIndex"] == job["CreateIndex"]] if job else []


def _enforce(before: dict[str, Any] | None, wanted: int) -> None:
    if before is None and wanted:
        raise Refusal(500, f"{_PREFIX} {wanted}: job does not exist")
    if before is not None and not wanted:
        raise Refusal(500, f"{_PREFIX} 0: job already exists")
    if before is not None and before["JobModifyIndex"] != wanted:
        conflict = f"job exists with conflicting job modify index: {before['JobModifyIndex']}"
        raise Refusal(500, f"{_PREFIX} {wanted}: {conflict}")


def _stop(state: State, namespace: str, job_id: str) -> None:
    for one in state.allocations.values():
        if (one["Namespace"], one["JobID"]) == (namespace, job_id):
            one |= {"DesiredStatus": "stop", "ClientStatus": "complete"}
    for name, found in state.services.items():
        state.services[name] = [one for one in found if one["JobID"] != job_id or one["Namespace"] != namespace]


def _run(state: State, job: dict[str, Any], index: int) -> None:
    deployment = {
        "ID": new_id(), "JobID": job["ID"], "Namespace": job["Namespace"], "JobVersion": job["Version"],
        "Status": "running", "StatusDescription": "Deployment is running", "CreateIndex": index, "ModifyIndex": index,
        "TaskGroups": {one["Name"]: {"DesiredCanaries": 0, "Promoted": False} for one in job["TaskGroups"]},
    }  # fmt: skip
    state.deployments[deployment["ID"]] = deployment
    for group in job["TaskGroups"]:
        for number in range(group.get("Count", 1)):
            one = _allocation(job, group, number, deployment["ID"], index)
            state.allocations[one["ID"]] = one
            _serve(state, one, group, index)


def _allocation(job: dict[str, Any], group: dict[str, Any], number: int, deployment: str, index: int) -> dict[str, Any]:
    tasks = {
        one["Name"]: {"State": "running", "Failed": False, "Restarts": 0, "Events": [], "StartedAt": None}
        for one in group["Tasks"]
    }
    return {
        "ID": new_id(), "Name": f"{job['ID']}.{group['Name']}[{number}]", "Namespace": job["Namespace"],
        "JobID": job["ID"], "JobVersion": job["Version"], "Job": shown(job), "TaskGroup": group["Name"],
        "DesiredStatus": "run", "ClientStatus": "running", "DeploymentID": deployment, "DeploymentStatus": None,
        "TaskStates": tasks, "CreateIndex": index, "ModifyIndex": index, "CreateTime": now(), "ModifyTime": now(),
        "NodeID": new_id(), "NodeName": "double", "FollowupEvalID": "", "EvalID": "",
    }  # fmt: skip


def _serve(state: State, allocation: dict[str, Any], group: dict[str, Any], index: int) -> None:
    for service in _services(group):
        found = state.services.setdefault((allocation["Namespace"], service["Name"]), [])
        found.append({
            "ID": f"_nomad-task-{allocation['ID']}", "ServiceName": service["Name"],
            "Namespace": allocation["Namespace"], "NodeID": allocation["NodeID"], "JobID": allocation["JobID"],
            "AllocID": allocation["ID"], "Address": "127.0.0.1", "Port": PORT + index,
            "Tags": service.get("Tags") or [], "CreateIndex": index, "ModifyIndex": index,
        })  # fmt: skip


def _services(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for holder in (group, *group["Tasks"]):
        yield from (one for one in holder.get("Services") or () if one.get("Provider") == "nomad")


def _evaluated(state: State, job: dict[str, Any], index: int) -> dict[str, Any]:
    newest = [one for one in state.deployments.values() if one["JobID"] == job["ID"]]
    evaluation = {
        "ID": new_id(), "JobID": job["ID"], "Namespace": job["Namespace"], "Status": "complete", "Type": "service",
        "CreateIndex": index, "ModifyIndex": index, "JobModifyIndex": job["JobModifyIndex"],
    }  # fmt: skip
    if newest:
        evaluation["DeploymentID"] = newest[-1]["ID"]
    state.evaluations[evaluation["ID"]] = evaluation
    return evaluation
