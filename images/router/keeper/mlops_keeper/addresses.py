"""Where the slots' servers are, where a cluster moves them: a file for each slot that HAProxy reads before all else.

The file is written before HAProxy is told, so that a reload and a restart begin with the address that was told last.
"""

import ipaddress

from mlops_keeper.folder import Folder
from mlops_keeper.proxy import Proxy
from mlops_keeper.wrong import WrongError

SLOTS = ("a", "b")
FILES = tuple(f"slot-{slot}.cfg" for slot in SLOTS)

Address = tuple[str, int]

_NOWHERE: Address = ("127.0.0.1", 1)
_PORTS = range(1, 65536)


def known(folder: Folder) -> bool:
    """Whether both slots' addresses, or that they have none, were ever written here."""
    return all(folder.read(name) is not None for name in FILES)


def write(folder: Folder, slot: str, address: Address | None) -> bool:
    """Say in the slot's file where it is, None for nowhere, under the lock that the caller has; whether that is new."""
    host, port = address or _NOWHERE
    state = "enabled" if address else "disabled"
    name = slot.upper()
    data = f"global\n    setenv SLOT_{name} {_host(host)}:{port}\n    setenv SLOT_{name}_STATE {state}\n".encode()
    if folder.read(_file(slot)) == data:
        return False
    folder.write(_file(slot), data, durable=False)
    return True


def apply(proxy: Proxy, slot: str, address: Address | None) -> None:
    """Send requests for `slot` to `address`, to nobody for None; raise `SilentError` when HAProxy does not say so."""
    if address is None:
        proxy.suspend(slot)
    elif proxy.server(slot) != address:
        proxy.move(slot, address)


def newest(registrations: object, job: str) -> Address | None:
    """The address of the newest of `job`'s registrations of a service, None when it has none."""
    ours = [one for one in registrations or () if one["JobID"] == job]
    if not ours:
        return None
    last = max(ours, key=lambda one: one["CreateIndex"])
    return _checked(last["Address"], last["Port"])


def _checked(host: object, port: object) -> Address:
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        address = ""
    if not address or type(port) is not int or port not in _PORTS:
        raise WrongError("state", f"`{host}:{port}` is no address")
    return address, port


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _file(slot: str) -> str:
    return f"slot-{slot}.cfg"
