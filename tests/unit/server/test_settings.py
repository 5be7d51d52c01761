import pytest

from mlops_server.settings import SettingsError, read_settings


def test_defaults_reach_a_container_from_outside():
    settings = read_settings({})
    assert (settings.host, settings.port, settings.grpc_port, settings.hook) == ("0.0.0.0", 8080, 8081, None)  # noqa: S104 - what is tested


@pytest.mark.parametrize("off", ["0", ""])
def test_grpc_can_be_turned_off(off):
    assert read_settings({"GRPC_PORT": off}).grpc_port == 0


@pytest.mark.parametrize("text", ["x", "-1", "65536", "80.5", "8 0"])
def test_what_is_no_port_is_refused(text):
    with pytest.raises(SettingsError, match="expected a port"):
        read_settings({"PORT": text})


def test_the_largest_request():
    assert read_settings({}).max_request_bytes == 16 * 1024 * 1024
    assert read_settings({"MAX_REQUEST_BYTES": "1000"}).max_request_bytes == 1000


@pytest.mark.parametrize("text", ["x", "-1", "0", "64MiB", "2147483648", "9" * 5000])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(SettingsError, match="expected a number of bytes"):
        read_settings({"MAX_REQUEST_BYTES": text})
