"""A preset file becomes a frozen `Preset`: read, parsed with positions, every mistake at once."""

from difflib import get_close_matches
from pathlib import Path

from mlops_deploy.config import preset_keys as keys
from mlops_deploy.config.fields import At, Values
from mlops_deploy.config.issues import Issue, Issues
from mlops_deploy.config.marks import Node, parse
from mlops_deploy.config.read import read
from mlops_deploy.errors import UnusableInputError
from mlops_deploy.spec.preset import Metrics, Ports, Preset, Readiness


def find_preset(name: str, folder: Path) -> Preset:
    """The preset `name` of `folder`; raise `UnusableInputError` that lists what is there, or what is wrong in it."""
    names = sorted(path.stem for path in folder.glob("*.yml"))
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"there is {', '.join(f'`{one}`' for one in names)}"
        raise UnusableInputError(f"there is no preset `{name[:80]}`", hint=hint)
    return load_preset(folder / f"{name}.yml")


def load_preset(path: Path) -> Preset:
    """The preset in the file `path`, named as the file; every mistake is in the one `ConfigError` raised."""
    issues = Issues()
    source = read(path, issues)
    node = None if source is None else parse(source, issues)
    values = None if node is None else keys.TABLE.decode(node, At(issues, path.parent.absolute()))
    if node is not None and values is not None:
        _check_origin(node, values, issues)
    issues.raise_errors()
    if values is None:
        raise AssertionError("no preset although nothing was reported")
    return _preset(path.stem, values)


def _check_origin(node: Node, values: Values, issues: Issues) -> None:
    if (values[keys.IMAGE] is None) == (values[keys.BUILD] is None):
        message, hint = "a preset needs either `image` or `build`", "`image` is pulled, `build` is made here"
        issues.add(Issue(mark=node.mark, path=(), message=message, hint=hint))


def _preset(name: str, values: Values) -> Preset:
    return Preset(
        name=name,
        doc=values[keys.DOC],
        image=values[keys.IMAGE],
        build=values[keys.BUILD],
        command=values[keys.COMMAND],
        args=values[keys.ARGS],
        ports=_ports(values[keys.PORTS]),
        layout=values[keys.LAYOUT],
        files=values[keys.FILES],
        env=values[keys.ENV],
        ready=_readiness(values[keys.READY]),
        live=values[keys.LIVE],
        metrics=_metrics(values[keys.METRICS]),
        protocol=values[keys.PROTOCOL],
        allow_paths=values[keys.ALLOW],
        deny_paths=values[keys.DENY],
        uid=values[keys.UID],
        restart=values[keys.RESTART],
        drain_signal=values[keys.DRAIN_SIGNAL],
        formats=values[keys.FORMATS],
        provides=values[keys.PROVIDES],
    )


def _ports(values: Values) -> Ports:
    return Ports(http=values[keys.HTTP], grpc=values[keys.GRPC], metrics=values[keys.METRICS_PORT])


def _readiness(values: Values) -> Readiness:
    return Readiness(
        path=values[keys.READY_PATH],
        endpoint=values[keys.ENDPOINT],
        status=values[keys.STATUS],
        json=values[keys.READY_JSON],
        version_in=values[keys.VERSION_IN],
        command=values[keys.READY_COMMAND],
    )


def _metrics(values: Values | None) -> Metrics | None:
    if values is None:
        return None
    return Metrics(
        path=values[keys.METRICS_PATH],
        unit=values[keys.UNIT],
        requests=values[keys.REQUESTS],
        errors=values[keys.ERRORS],
        latency_histogram=values[keys.HISTOGRAM],
        latency_quantile=values[keys.QUANTILE],
        labels=values[keys.LABELS],
    )
