"""A client that has sent FIN: perhaps it waits for its answer, perhaps nobody is there. What is told, what is cut?"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.proxy import serve, wait_for
from tests.support.wire import Wire

if TYPE_CHECKING:
    from tests.support.proxy import Proxy

LOOPS = pytest.mark.parametrize("stock_loop", [False, True], ids=["uvloop", "asyncio"])


def departs(proxy: Proxy, target: str, *, half: bool) -> Wire:
    """A client that asks, and closes its connection, or only its own side of it."""
    wire = Wire(proxy.address).get(target)
    wait_for(lambda: proxy.status()["in_flight"]["http"], "the request")
    if half:
        wire.sock.shutdown(socket.SHUT_WR)
    else:
        wire.sock.close()
    return wire


@LOOPS
def test_a_client_that_is_gone_is_told_of_while_it_holds_the_drain_and_afterwards(app: str, stock_loop: bool) -> None:
    with serve(app, stock_loop=stock_loop, access_log="all") as proxy:
        proxy.await_ready()
        departs(proxy, "/sleep/2", half=False)
        wait_for(lambda: proxy.status()["oldest"][0]["client_left"], "the FIN")
        summary = proxy.ask("/drain").json
        assert (summary["outcome"], summary["completed"], summary["aborted"], summary["departed"]) == ("clean", 0, 1, 1)
        assert summary["elapsed_s"] > 1, "the app worked on it"
        line = proxy.await_log("request")
        assert (line["status"], line["completed"]) == (200, False)
        assert proxy.metric("drainproxy_drain_aborted_total", kind="http", by="client") == 1
        assert proxy.status()["connections"]["client"] == 0


@LOOPS
def test_a_client_that_only_sends_no_more_gets_its_answer_and_is_counted_as_served(app: str, stock_loop: bool) -> None:
    with serve(app, stock_loop=stock_loop, access_log="all") as proxy:
        proxy.await_ready()
        with departs(proxy, "/sleep/1", half=True) as wire:
            wait_for(lambda: proxy.status()["oldest"][0]["client_left"], "the FIN")
            drain = proxy.ask("/drain").json
            assert wire.response()[0] == 200
        assert (drain["completed"], drain["departed"]) == (1, 0)
        line = proxy.await_log("request")
        assert (line["status"], line["completed"]) == (200, True)


@LOOPS
def test_with_departed_clients_cut_the_exchange_ends_with_the_fin(app: str, stock_loop: bool) -> None:
    with serve(app, stock_loop=stock_loop, access_log="all", departed_clients="cut") as proxy:
        proxy.await_ready()
        with departs(proxy, "/sleep/30", half=True):
            wait_for(lambda: not proxy.status()["in_flight"]["http"], "the end of the exchange")
        line = proxy.await_log("request")
        assert (line["status"], line["completed"]) == (0, False)
        assert proxy.status()["connections"]["upstream_busy"] == 0
        assert proxy.ask("/drain").json["elapsed_s"] < 5
