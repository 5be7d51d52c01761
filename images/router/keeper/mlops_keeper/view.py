"""What HAProxy sees and counts, put into the words of a release."""

from mlops_keeper import routes
from mlops_keeper.proxy import Proxy, SilentError, map_number

Rows = dict[tuple[str, str], dict[str, str]]

_SILENT_LANE = {"up": False, "verdict": "the proxy is silent", "sessions": 0, "counters": {"requests": 0, "failed": 0}}
_SILENT = {
    "applied": None,
    "a": _SILENT_LANE,
    "b": _SILENT_LANE,
    "entry": {"requests": 0, "failed": 0},
    "started": "",
}


def view(proxy: Proxy) -> dict:
    """The route in force, both lanes, the entry, and which run of the proxy counts."""
    try:
        info, shown, stat, env = proxy.tell("show info", f"show map {routes.MAP}", "show stat", "show env RUN_ID")
        left = _left_behind(proxy)
    except SilentError:
        return _SILENT
    rows, value = read_stat(stat), map_number(shown)
    return {
        "applied": None if value is None else routes.as_route(value),
        "a": _lane(rows, "a", left),
        "b": _lane(rows, "b", left),
        "entry": _entry(rows),
        "started": _started(info, env),
    }


def _started(info: str, env: str) -> str:
    """A name for this worker: the start of the router and the number of the process."""
    pid = next((line for line in info.splitlines() if line.startswith("Pid: ")), "")
    return f"{env.partition('=')[2]}-{pid.partition(' ')[2]}"


def read_stat(text: str) -> Rows:
    """The rows of `show stat` by proxy and server.

    Fields of free text are quoted and hold commas; all that is read here stands before the first of them.
    """
    lines = [line for line in text.splitlines() if line]
    names = lines[0].removeprefix("# ").split(",") if lines else []
    rows = (dict(zip(names, line.split(","), strict=False)) for line in lines[1:])
    return {(row["pxname"], row["svname"]): row for row in rows}


def _left_behind(proxy: Proxy) -> list[Rows]:
    """What the workers count that a reload has left to finish their requests."""
    found, old = [], False
    for line in proxy.tell_master("show proc").splitlines():
        if line.startswith("#"):
            old = line.startswith("# old workers")
        elif old and line.strip():
            found.append(read_stat(proxy.tell_master(f"@!{line.split()[0]} show stat")))
    return found


def in_flight(proxy: Proxy) -> int:
    """Requests that servers work on, whichever HAProxy process they came to; raise `SilentError` when none answers."""
    lines = [line.split() for line in proxy.tell_master("show proc").splitlines()]
    workers = [words[0] for words in lines if words[1:2] == ["worker"]]
    seen = [read_stat(proxy.tell_master(f"@!{pid} show stat")) for pid in workers]
    return sum(_number(rows, row, "scur") for rows in seen for row in rows if row[1] == "BACKEND")


def _lane(rows: Rows, slot: str, left: list[Rows]) -> dict:
    server, lane = rows.get((slot, slot), {}), (slot, "BACKEND")
    status, check = server.get("status", "unknown"), server.get("check_status", "").removeprefix("* ")
    known = f" {server['check_code']}" if server.get("check_code") else ""
    return {
        # `UP 1/10` is what HAProxy calls a server that it has not checked yet: that is no verdict. One that has begun
        # to fail its checks is still `UP 9/10`.
        "up": status.startswith("UP") and not status.startswith("UP 1/"),
        "verdict": f"{status} ({check}{known})" if check else status,
        "sessions": sum(
            _number(all_, name, "scur") for all_ in (rows, *left) for name in (lane, (f"private_{slot}", lane[1]))
        ),
        "counters": {
            "requests": _number(rows, lane, "req_tot"),
            "failed": _number(rows, lane, "hrsp_5xx") + _number(rows, lane, "srv_abrt"),
        },
    }


def _entry(rows: Rows) -> dict:
    entry, cut = ("entry", "FRONTEND"), sum(_number(rows, (slot, "BACKEND"), "srv_abrt") for slot in "ab")
    deliberate = _number(rows, ("closed", "BACKEND"), "hrsp_5xx")
    failed = _number(rows, entry, "hrsp_5xx") - deliberate + cut
    return {"requests": _number(rows, entry, "req_tot"), "failed": max(0, failed)}


def _number(rows: Rows, row: tuple[str, str], name: str) -> int:
    text = rows.get(row, {}).get(name, "")
    return int(text) if text.isdigit() else 0
