"""HAProxy's sockets: commands to the process in force, and to the master that replaces it."""

import os
import socket

from mlops_keeper import routes

ADMIN = "admin.sock"
MASTER = "master.sock"
PRIVATE = "private.sock"
ENTRY = "entry.sock"
_MAINTENANCE = 0x01 | 0x02 | 0x20
"""Bits of a server's administrative state: by command, by the server that it tracks, for want of an address."""

PATIENCE = 2.0
"""Seconds that HAProxy may take for one answer; it takes less than a millisecond."""


class SilentError(Exception):
    """HAProxy does not answer."""


class Proxy:
    """One HAProxy by its folder of sockets."""

    def __init__(self, run: str) -> None:
        self.run = run

    def tell(self, *commands: str) -> list[str]:
        """The outputs of `commands`, sent at once."""
        text = self._exchange(ADMIN, ";".join(commands))
        outputs = [part.strip("\n") for part in text.split("\n\n")]
        return [*outputs, *[""] * len(commands)][: len(commands)]

    def tell_master(self, command: str) -> str:
        """The output of one command of the master; `@!PID COMMAND` goes to one of its workers."""
        return self._exchange(MASTER, command)

    def route_value(self) -> int | None:
        """The number in the map in force; None when HAProxy is silent."""
        try:
            return map_number(self.tell(f"show map {routes.MAP}")[0])
        except SilentError:
            return None

    def set_route(self, value: int) -> bool:
        """Change the map in force; whether HAProxy then says that it holds `value`."""
        try:
            outputs = self.tell(f"set map {routes.MAP} {routes.KEY} {value}", f"show map {routes.MAP}")
        except SilentError:
            return False
        return map_number("\n".join(outputs)) == value

    def server(self, slot: str) -> tuple[str, int] | None:
        """Where requests for `slot` go, both clients' and private ones; None when nobody gets them."""
        places = {_place(output) for output in self.tell(*(f"show servers state {name}" for name in _backends(slot)))}
        return places.pop() if len(places) == 1 else None

    def move(self, slot: str, address: tuple[str, int]) -> None:
        """Send requests for `slot` to another address, where it has yet to succeed in a check; `SilentError` if not."""
        host, port = address
        places = [f"set server {name}/{slot} addr {host} port {port}" for name in _backends(slot)]
        # Out of maintenance a server begins as one that was never checked: no verdict passes to another address.
        self.tell(f"set server {slot}/{slot} state maint", *places, f"set server {slot}/{slot} state ready")
        if self.server(slot) != address:
            raise SilentError(f"it does not take {host}:{port} over")

    def suspend(self, slot: str) -> None:
        """Send requests for `slot` nowhere; `SilentError` when HAProxy does not."""
        self.tell(f"set server {slot}/{slot} state maint")
        if self.server(slot) is not None:
            raise SilentError(f"it still serves {slot}")

    def _exchange(self, name: str, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            try:
                connection.connect(os.path.join(self.run, name))
                connection.sendall(command.encode() + b"\n")
                connection.shutdown(socket.SHUT_WR)  # the master answers for ever otherwise
                parts = []
                while part := connection.recv(1 << 16):
                    parts.append(part)
            except OSError as error:
                raise SilentError(str(error)) from error
        return b"".join(parts).decode(errors="replace")


def value_of(output: str) -> str:
    """The value in the output of `get var`; empty when there is none."""
    return output.partition("value=<")[2].rstrip(">")


def _backends(slot: str) -> tuple[str, str]:
    return slot, f"private_{slot}"


def _place(output: str) -> tuple[str, int] | None:
    """Address and port in the output of `show servers state`; None for a server in maintenance."""
    lines = [line.split() for line in output.splitlines() if not line.startswith("#")]
    names = next((line[2:].split() for line in output.splitlines() if line.startswith("# ")), [])
    row = dict(zip(names, lines[-1], strict=False)) if lines else {}
    if int(row.get("srv_admin_state", _MAINTENANCE)) & _MAINTENANCE:
        return None
    return row["srv_addr"], int(row["srv_port"])


def map_number(output: str) -> int | None:
    """The value of the one key in the output of `show map`."""
    for line in output.splitlines():
        match line.split():
            case [_, routes.KEY, value] if value.removeprefix("-").isdigit():
                return int(value)
    return None
