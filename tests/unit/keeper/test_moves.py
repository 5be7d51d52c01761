"""A server that moves begins anew: what was found out about one address says nothing of another."""

import socketserver
import threading

import pytest

from tests.fakes.routers import KEEPER

HEADER = "1\n# be_name srv_name srv_addr srv_admin_state srv_port\n"


class Haproxy(socketserver.UnixStreamServer):
    """As much of HAProxy's socket as a move asks for: one slot, and what the checks of its server have said."""

    def __init__(self, path):
        self.address, self.maintained, self.verdict = ["127.0.0.1", "81"], False, "up"
        super().__init__(path, Handler)

    def told(self, command):
        match command.split():
            case ["set", "server", "a/a", "state", "maint"]:
                self.maintained, self.verdict = True, None
            case ["set", "server", "a/a", "state", "ready"]:
                self.maintained = False
            case ["set", "server", name, "addr", host, "port", port]:
                self.address = [host, port] if name == "a/a" else self.address
            case ["show", "servers", "state", name]:
                return f"{HEADER}{name} a {self.address[0]} {int(self.maintained)} {self.address[1]}\n"
        return ""


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        said = (self.server.told(one) for one in self.rfile.read().decode().strip().split(";"))
        self.wfile.write("".join(f"{one}\n" for one in said).encode())


@pytest.fixture
def haproxy(tmp_path):
    with Haproxy(str(tmp_path / "admin.sock")) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def proxy(haproxy, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(KEEPER)
    from mlops_keeper.proxy import Proxy  # noqa: PLC0415 - found by the line above

    return Proxy(str(tmp_path))


def test_no_verdict_passes_to_another_address(haproxy, proxy):
    assert proxy.server("a") == ("127.0.0.1", 81)
    proxy.move("a", ("127.0.0.2", 82))
    assert proxy.server("a") == ("127.0.0.2", 82)
    assert haproxy.verdict is None


def test_what_has_moved_nowhere_keeps_its_verdict(haproxy, proxy):
    from mlops_keeper.addresses import apply  # noqa: PLC0415 - found by `proxy`

    apply(proxy, "a", ("127.0.0.1", 81))
    assert haproxy.verdict == "up"
    apply(proxy, "a", None)
    assert proxy.server("a") is None
