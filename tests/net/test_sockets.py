"""Does every address that can be listened on become sockets, and every other one a line that helps?"""

from __future__ import annotations

import contextlib
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.config.values import Address, parse_address
from drainproxy.errors import BindError
from drainproxy.net.sockets import bind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def bound(text: str) -> Iterator[list[socket.socket]]:
    sockets = bind(parse_address(text), 16)
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


@pytest.mark.parametrize("text", [":0", "[::]:0"])
def test_all_addresses_take_ipv4_and_ipv6_on_one_socket(text: str) -> None:
    with bound(text) as (sock,):
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port_of(sock)), timeout=2):
                pass


def test_without_ipv6_all_addresses_means_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def no_ipv6(family: int = -1, *args: Any, **kwargs: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *args, **kwargs)

    monkeypatch.setattr(socket, "socket", no_ipv6)
    with bound(":0") as (sock,):
        assert sock.getsockname()[0] == "0.0.0.0"


def test_sockets_listen_and_do_not_block() -> None:
    with bound("127.0.0.1:0") as (sock,):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        assert not sock.getblocking()


def test_a_name_binds_each_of_its_addresses_on_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*_: object, **__: object) -> list[tuple[Any, ...]]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with bound("somename:0") as sockets:
        assert [sock.getsockname()[0] for sock in sockets] == ["::1", "127.0.0.1"]
        assert len({port_of(sock) for sock in sockets}) == 1


def test_a_taken_port_says_what_to_do() -> None:
    with bound(":0") as (sock,):
        port = port_of(sock)
        with pytest.raises(BindError) as caught:
            bind(Address(port=port), 16)
    assert f"port {port} is taken" in str(caught.value)
    assert "stop it, or listen on another port" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_port_that_ipv4_alone_has_taken_is_not_shared() -> None:
    with bound("0.0.0.0:0") as (sock,), pytest.raises(BindError):
        bind(Address(port=port_of(sock)), 16)


def test_an_address_of_another_machine_says_so() -> None:
    with pytest.raises(BindError, match=r"192\.0\.2\.1 is not an address of this machine; listen on :8080"):
        bind(Address("192.0.2.1", 8080), 16)


def test_a_name_that_does_not_resolve_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    with pytest.raises(BindError, match="the name 'nowhere' does not resolve"):
        bind(Address("nowhere", 8080), 16)


def test_a_unix_socket_can_be_reached_by_other_users(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bound(f"unix:{path}"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bound(f"unix:{path}"):
        pass
    assert path.is_socket()
    with bound(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_unix_socket_that_somebody_answers_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bound(f"unix:{path}"):
        with pytest.raises(BindError, match="a running process listens there"):
            bind(Address(path=str(path)), 16)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(BindError, match="it is not a socket"):
        bind(Address(path=str(path)), 16)
    assert path.read_text() == "data"


@pytest.mark.parametrize(
    ("path", "says"),
    [("missing/dir/s", "missing/dir does not exist"), ("x" * 200, "too long")],
)
def test_a_unix_path_that_cannot_be_used_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BindError, match=says):
        bind(Address(path=path), 16)
    assert not list(tmp_path.iterdir())
