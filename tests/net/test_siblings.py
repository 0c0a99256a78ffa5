"""Who answers at the successor's address: nothing of a search is left behind, however it ends. Real sockets."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.config.options import Config
from drainproxy.config.values import Address, Route, Successor
from drainproxy.drain.handover import AGAIN_S, ATTEMPTS, MOST, OURSELVES, Attempt, HandedOver, Why
from drainproxy.drain.ledger import Ledger
from drainproxy.drain.release import Answer
from drainproxy.net.route import context_for
from drainproxy.net.siblings import Replica
from drainproxy.net.timers import Timers
from drainproxy.net.tls import Trust
from drainproxy.protocol.hello import FIRST, Identity, read_question
from drainproxy.protocol.reasons import Reason
from tests.support.apps import free_port
from tests.support.asyncio_server import serving
from tests.support.transports import Noting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from drainproxy.net.successor import Handover
    from drainproxy.net.upstream import UpstreamConnection

US = Identity(b"a" * 16, b"web")
SIBLING = Identity(b"b" * 16, b"web")
NO_DRAINPROXY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Waiting:
    """A client that waits for a connection."""

    def __init__(self) -> None:
        self.told: asyncio.Future[UpstreamConnection | Reason] = asyncio.get_running_loop().create_future()

    def connected(self, upstream: UpstreamConnection) -> None:
        self.told.set_result(upstream)

    def refused(self, reason: Reason) -> None:
        self.told.set_result(reason)


class Behind:
    """What is at the successor's address: each connection is answered as the next of `answers` says."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.came = 0
        self.open = 0
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self.left.set()
        self._writers: list[asyncio.StreamWriter] = []

    async def hang_up(self) -> None:
        """Close every connection that is open."""
        for writer in self._writers:
            writer.close()
            await writer.wait_closed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        self.open += 1
        self.left.clear()
        self._writers.append(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(FIRST)
            self.asked.set()
            standing = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if standing is not None:
                question = read_question(head)
                assert question is not None
                identity = US if standing == b"us" else SIBLING
                writer.write(standing if standing.startswith(b"HTTP") else identity.answer(question, standing))
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            if not self.open:
                self.left.set()
            writer.close()


@asynccontextmanager
async def route(
    successor: Behind, *, patient: bool = True, wait_s: float = 0.2, at: Address | None = None
) -> AsyncIterator[tuple[Handover, HandedOver]]:
    """A route whose app is not there, and its successor, or nobody `at` an address.

    `patient`: at the end nothing is open, and nobody waits.
    """
    loop = asyncio.get_running_loop()
    async with serving(successor.serve) as port:
        address = at or Address("127.0.0.1", port)
        config = Config(connect_timeout_s=0.3, connect_wait_s=wait_s, successor_after_s=0.0)
        handed, timers = HandedOver(lambda: 0), Timers(loop)
        replica = Replica(US, lambda: Answer.READY, Trust(None, None), lambda trouble: None)
        more: dict[str, Any] = {"ledger": Ledger(), "timers": timers, "observer": Noting(), "handed": handed}
        the_route = Route(Address("127.0.0.1", 2), Address("127.0.0.1", 1), "http1", Successor(address))
        context = context_for(loop, the_route, config, replica=replica, **more)
        assert context.handover is not None
        yield context.handover, handed
        if patient:
            await asyncio.gather(*context.handover._tasks._running)
        await context.handover.close()
        await context.dialler.close()
        if patient:
            async with asyncio.timeout(20):
                await successor.left.wait()
            assert not context.handover._searches
            assert not context.handover.siblings._greetings
            assert context.handover.siblings.pool.busy == 0
            assert context.pool.waiting == 0
        timers.close()


async def found(handover: Handover, **how: bool) -> UpstreamConnection | Reason:
    waiting = Waiting()
    handover.find(waiting, Why.DRAIN, asyncio.get_running_loop().time(), **({"whole": False, "fresh": False} | how))
    async with asyncio.timeout(20):
        return await waiting.told


async def test_a_ready_sibling_is_found_and_used_again() -> None:
    successor = Behind(b"ready")
    async with route(successor) as (handover, handed):
        for _ in range(3):
            connection = await found(handover)
            assert not isinstance(connection, Reason)
            handover.siblings.put(connection)
        assert successor.came == 1
        fresh = await found(handover, fresh=True)
        assert not isinstance(fresh, Reason)
        fresh.transport.abort()
        assert successor.came == 2
        assert handed.counts == {(Why.DRAIN, Attempt.SENT): 4}


@pytest.mark.parametrize(
    ("standing", "outcome", "attempts"),
    [
        (b"gone", Attempt.NOT_READY, ATTEMPTS),
        (b"us", Attempt.OURSELVES, OURSELVES),
        (NO_DRAINPROXY, Attempt.STRANGER, ATTEMPTS),
        (b"HTTP/1.1 204 No Content\r\nX-Nonsense: 1\r\n\r\n", Attempt.STRANGER, ATTEMPTS),
        (b"HTTP/1.1 204 " + b"x" * 10_000, Attempt.STRANGER, ATTEMPTS),
        (None, Attempt.UNREACHABLE, ATTEMPTS),
    ],
)
async def test_who_takes_nothing_is_asked_a_few_times_and_then_the_app_is(
    standing: bytes | None, outcome: Attempt, attempts: int
) -> None:
    successor = Behind(standing)
    async with route(successor) as (handover, handed):
        assert await found(handover) is Reason.APP_UNAVAILABLE
        assert handed.counts == {(Why.DRAIN, outcome): attempts}
        assert successor.came == attempts


async def test_while_a_request_is_held_siblings_are_asked_again() -> None:
    successor = Behind(*[NO_DRAINPROXY] * ATTEMPTS, b"ready")
    async with route(successor, wait_s=10) as (handover, handed):
        began = asyncio.get_running_loop().time()
        connection = await found(handover)
        assert not isinstance(connection, Reason)
        assert AGAIN_S <= asyncio.get_running_loop().time() - began < 10
        connection.transport.abort()
        assert handed.counts == {(Why.DRAIN, Attempt.STRANGER): ATTEMPTS, (Why.DRAIN, Attempt.SENT): 1}


async def test_in_an_outage_of_all_one_request_a_second_asks_and_the_others_are_told_at_once() -> None:
    successor = Behind(b"gone")
    async with route(successor) as (handover, handed):
        assert await found(handover) is Reason.APP_UNAVAILABLE
        for _ in range(10):
            assert await found(handover) is Reason.APP_UNAVAILABLE
        assert successor.came == ATTEMPTS
        assert handed.counts == {(Why.DRAIN, Attempt.NOT_READY): ATTEMPTS, (Why.DRAIN, Attempt.OVER_BUDGET): 10}


def took_s(began: float) -> float:
    """Seconds since then."""
    return asyncio.get_running_loop().time() - began


def nobody_here() -> Address:
    """Where nobody listens."""
    return Address("127.0.0.1", free_port())


async def test_where_nobody_is_what_comes_early_in_an_outage_is_held_and_what_comes_later_is_told_at_once() -> None:
    wait_s = 0.5
    async with route(Behind(None), wait_s=wait_s, at=nobody_here()) as (handover, handed):
        began = asyncio.get_running_loop().time()
        early = [found(handover) for _ in range(3)]
        assert set(await asyncio.gather(*early)) == {Reason.APP_UNAVAILABLE}
        assert took_s(began) >= wait_s, "for the app may be back in a moment"
        attempts = handed.counts[Why.DRAIN, Attempt.UNREACHABLE]
        began = asyncio.get_running_loop().time()
        for _ in range(20):
            assert await found(handover) is Reason.APP_UNAVAILABLE
        assert took_s(began) < wait_s, "each of them for less than a twentieth of that"
        assert handed.counts[Why.DRAIN, Attempt.UNREACHABLE] <= attempts + ATTEMPTS, "one of them has asked"


async def test_siblings_that_were_there_a_moment_ago_are_waited_for_however_long_the_app_has_been_away() -> None:
    wait_s = 0.5
    async with route(Behind(b"ready"), wait_s=wait_s) as (handover, _):
        handover._dialler.app_seen(reachable=False)
        assert handover._dialler.absence is not None
        handover._dialler.absence.since = 0.0
        connection = await found(handover)
        assert not isinstance(connection, Reason)
        connection.transport.abort()
        handover.siblings._address = nobody_here()
        began = asyncio.get_running_loop().time()
        assert await found(handover) is Reason.APP_UNAVAILABLE
        assert took_s(began) >= wait_s
        began = asyncio.get_running_loop().time()
        assert await found(handover) is Reason.APP_UNAVAILABLE
        assert took_s(began) < wait_s


async def test_a_route_whose_successor_leads_to_nobody_keeps_no_other_route_from_asking() -> None:
    async with route(Behind(None), wait_s=0.0, at=nobody_here()) as (handover, handed):
        assert await found(handover) is Reason.APP_UNAVAILABLE
        assert await found(handover) is Reason.APP_UNAVAILABLE
        assert handed.counts[Why.DRAIN, Attempt.OVER_BUDGET], "this one asks nobody for a second"
        assert not handed.is_outage(asyncio.get_running_loop().time())


async def test_in_such_an_outage_the_first_request_after_the_apps_return_gets_it() -> None:
    async with route(Behind(None), wait_s=0.1, at=nobody_here()) as (handover, _):
        dialler = handover._dialler
        assert await found(handover) is Reason.APP_UNAVAILABLE
        app = socket.create_server(("127.0.0.1", 0))
        dialler.retarget(Address("127.0.0.1", app.getsockname()[1]))
        assert dialler.absent_since is None
        assert not dialler.skips()
        connection = await found(handover)
        assert not isinstance(connection, Reason)
        assert not connection.sibling
        connection.transport.abort()
        app.close()


async def test_an_idle_connection_is_lent_at_once_within_the_budget() -> None:
    successor = Behind(b"ready")
    async with route(successor) as (handover, handed):
        assert handover.lend(Why.DRAIN, validate=False) is None, "there is none"
        connection = await found(handover)
        assert not isinstance(connection, Reason)
        handover.siblings.put(connection)
        lent = 0
        while handover.lend(Why.DRAIN, validate=False) is connection:
            handover.siblings.put(connection)
            lent += 1
        assert lent >= MOST - 1
        assert handed.counts == {(Why.DRAIN, Attempt.SENT): lent + 1}
        assert not handover._searches
        assert successor.came == 1


async def test_an_idle_connection_that_the_sibling_has_closed_is_not_lent_to_who_must_be_sure() -> None:
    successor = Behind(b"ready")
    async with route(successor) as (handover, _):
        connection = await found(handover)
        assert not isinstance(connection, Reason)
        handover.siblings.put(connection)
        await successor.hang_up()
        assert handover.lend(Why.DRAIN, validate=True) is None
        await asyncio.sleep(0)  # the loop tells of the end


async def test_a_sibling_that_serves_is_taken_if_no_ready_one_is_found() -> None:
    successor = Behind(b"serving")
    async with route(successor) as (handover, handed):
        connection = await found(handover)
        assert not isinstance(connection, Reason)
        connection.transport.abort()
        assert handed.counts == {(Why.DRAIN, Attempt.NOT_READY): 2, (Why.DRAIN, Attempt.SENT): 1}


async def test_the_way_back_to_ourselves_is_gone_until_a_sibling_answers() -> None:
    successor = Behind(*[b"us"] * (OURSELVES - 1), b"ready")
    async with route(successor) as (handover, _):
        connection = await found(handover)
        assert not isinstance(connection, Reason)
        connection.transport.abort()


@pytest.mark.parametrize("turns", [0, 1, 3, 10, 30])
@pytest.mark.parametrize("standing", [b"ready", b"us", None])
async def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(standing: bytes | None, turns: int) -> None:
    successor = Behind(standing)
    async with route(successor) as (handover, _):
        waiting = [Waiting() for _ in range(5)]
        for each in waiting:
            handover.find(each, Why.DRAIN, 0.0, whole=False, fresh=True)
        for _ in range(turns):
            await asyncio.sleep(0)
        for each in waiting:
            handover.forget(each)
            if each.told.done() and not isinstance(each.told.result(), Reason):
                each.told.result().transport.abort()  # type: ignore[union-attr]  # as the line above says


async def test_the_end_of_the_process_ends_every_search() -> None:
    successor = Behind(None)
    async with route(successor, patient=False) as (handover, _):
        for _ in range(100):
            handover.find(Waiting(), Why.DRAIN, 0.0, whole=False, fresh=True)
        async with asyncio.timeout(20):
            await successor.asked.wait()
    assert not handover._tasks._running


async def test_asking_keeps_no_connection() -> None:
    answers = [Answer.READY, Answer.OURSELVES, Answer.GONE, Answer.NOBODY]
    successor = Behind(b"ready", b"us", b"gone", None)
    async with route(successor) as (handover, _):
        for answer in answers:
            told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            handover.ask(told.set_result)
            async with asyncio.timeout(20):
                assert await told is answer
