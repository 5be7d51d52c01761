"""What the router in front of both slots is told, on whatever target: from the configuration and the preset alone."""

from mlops_deploy.errors import UnusableInputError
from mlops_deploy.render.router import RouterSettings, render_router, router_paths
from mlops_deploy.spec.deploy import DeploySpec
from mlops_deploy.spec.preset import Preset, fill


def router_config(
    spec: DeploySpec,
    preset: Preset,
    *,
    listen: str | None = None,
    a: str | None = None,
    b: str | None = None,
    by_name: bool = False,
) -> str:
    """HAProxy's configuration; the addresses are those of `RouterSettings`, none of them in a cluster.

    Raises `UnusableInputError` for a preset that does not say what a router may ask whichever version is there.
    """
    if preset.ready.endpoint is None:
        raise UnusableInputError(
            f"preset `{preset.name}` has no `ready.endpoint`, which a router asks",
            hint="give the preset a path that answers once a model is loaded, whichever version it is",
        )
    return render_router(
        RouterSettings(
            service=spec.project,
            listen=listen,
            a=a,
            b=b,
            by_name=by_name,
            check_path=fill(preset.ready.endpoint, {"name": spec.model.name}),
            check_status=preset.ready.status,
            paths=router_paths(preset, spec.model.name),
        )
    )
