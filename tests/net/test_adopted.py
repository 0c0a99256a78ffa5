"""Does each socket that was passed in serve what it was opened for?"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.config.values import Route, parse_address
from drainproxy.errors import BindError
from drainproxy.net.adopted import Adopted, adopt, names
from drainproxy.net.sockets import bind

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path


def listening(where: str = "127.0.0.1:0") -> socket.socket:
    (sock,) = bind(parse_address(where), 16)
    return sock


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def test_a_socket_is_taken_by_its_name_whatever_it_is_bound_to() -> None:
    with listening() as admin, listening() as data:
        adopted = Adopted([("admin", admin), ("other.socket", data)])
        assert adopted.bind("admin", parse_address(":9081"), 16) == [admin]


@pytest.mark.parametrize("where", ["127.0.0.1:{}", "[::1]:{}", ":{}"])
def test_a_socket_is_taken_by_its_address_whatever_its_name(where: str) -> None:
    with listening(where.format(0)) as sock:
        adopted = Adopted([("drainproxy.socket", sock)])
        assert adopted.bind("x", parse_address(where.format(port_of(sock))), 16) == [sock]
        adopted.refuse_rest()


def test_a_unix_socket_is_taken_by_its_path(tmp_path: Path) -> None:
    with listening(f"unix:{tmp_path}/s") as sock:
        assert Adopted([("", sock)]).bind("x", parse_address(f"unix:{tmp_path}/s"), 16) == [sock]


def test_a_socket_is_taken_once_and_what_is_missing_is_bound() -> None:
    with listening() as sock:
        adopted = Adopted([("x", sock)])
        assert adopted.bind("x", parse_address("127.0.0.1:0"), 16) == [sock]
        (other,) = adopted.bind("x", parse_address("127.0.0.1:0"), 16)
        with other:
            assert port_of(other) != port_of(sock)


def test_a_socket_that_no_option_names_is_refused_with_what_to_do() -> None:
    sock = listening()
    where = f"127.0.0.1:{port_of(sock)}"
    with pytest.raises(BindError, match=rf"the socket web on {where}, .*--route {where}=UPSTREAM"):
        Adopted([("web", sock)]).refuse_rest()
    assert sock.fileno() == -1


def test_names_are_unique_and_hold_no_colon() -> None:
    anywhere, upstream = parse_address("127.0.0.1:0"), parse_address(":1")
    found = names([Route(anywhere, upstream), Route(anywhere, upstream), Route(parse_address("[::1]:80"), upstream)])
    assert found == ["127.0.0.1%3A0", "127.0.0.1%3A0~1", "%5B%3A%3A1%5D%3A80"]


def test_what_was_passed_to_another_process_is_left_alone_and_forgotten() -> None:
    environ = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "HOME": "/"}
    adopt(environ, os.getpid()).refuse_rest()
    assert environ == {"HOME": "/"}


ADOPTS = """
import os, sys
from drainproxy.errors import BindError
from drainproxy.net.adopted import adopt
try:
    adopted = adopt({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a"}, os.getpid())
    print(os.get_inheritable(3), adopted._sockets[0][0], adopted._sockets[0][1].getblocking())
except BindError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("listening", "False a False\n"),
        ("stream", "descriptor 3, which was passed in, is not a listening stream socket: in the .socket unit, use "),
        ("datagram", "descriptor 3, which was passed in, is not a listening stream socket"),
        ("file", "descriptor 3, which was passed in, is not a socket"),
    ],
)
def test_only_listening_sockets_are_taken_and_no_child_inherits_them(what: str, said: str, tmp_path: Path) -> None:
    things: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "listening": listening,
        "stream": socket.socket,
        "datagram": lambda: socket.socket(type=socket.SOCK_DGRAM),
        "file": (tmp_path / "file").open,
    }
    if what == "file":
        (tmp_path / "file").touch()
    with things[what]() as passed:
        fd = passed.fileno()
        command = f"exec {sys.executable} -c '{ADOPTS}' 3<&{fd}"
        done = subprocess.run(
            ["bash", "-c", command], pass_fds=(fd,), capture_output=True, text=True, timeout=20, check=False
        )
    assert done.stdout.startswith(said), done.stdout + done.stderr
