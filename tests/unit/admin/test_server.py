"""Does every admin endpoint answer as docs/admin.md says, to everyone who may ask, whoever else is on the port?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from drainproxy.admin import guard
from drainproxy.admin.access import Access
from drainproxy.admin.control import Operations, Upgraded
from drainproxy.admin.server import BACKLOG, AdminServer
from drainproxy.config.options import Config
from drainproxy.config.values import Address
from drainproxy.drain.phase import Trigger
from drainproxy.errors import BindError, ConfigError, DrainproxyError, HandoverError, UpgradeRefusedError
from drainproxy.net.sockets import bind
from drainproxy.protocol.reasons import Reason
from tests.support.control import ScriptedControl, view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ANYWHERE = Address("127.0.0.1", 0)
TOKEN = "s3cret"
PATIENCE_S = 5.0
FROM_ELSEWHERE = ("192.0.2.9", 40000)

ROOT = Path(__file__).parents[3]


class Port:
    """A served admin port, and a client that knows nothing of its insides."""

    def __init__(self, control: ScriptedControl, server: AdminServer) -> None:
        self.control = control
        self.server = server
        self.address = ("127.0.0.1", server.address.port)

    async def ask(self, target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        url = f"http://127.0.0.1:{self.address[1]}{target}"
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        timeout = aiohttp.ClientTimeout(PATIENCE_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, url, headers=sent) as answer,
        ):
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.text()

    async def raw(self, data: bytes) -> bytes:
        """Send these bytes, read until the server closes."""
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(data)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class ScriptedUpgrades:
    """Each upgrade ends so; which programs it was asked for."""

    def __init__(self, end: Upgraded | DrainproxyError | None = None) -> None:
        self.end = end or Upgraded(7, 2)
        self.programs: list[str | None] = []

    async def upgrade(self, program: str | None) -> Upgraded:
        self.programs.append(program)
        if isinstance(self.end, DrainproxyError):
            raise self.end
        return self.end


@contextlib.asynccontextmanager
async def serving(
    config: Config | None = None, *, ready: bool = True, upgrades: ScriptedUpgrades | None = None, **options: Any
) -> AsyncIterator[Port]:
    control = ScriptedControl(config or Config(admin=ANYWHERE, **options), ready=ready)
    server, unused = AdminServer(control, control, control.meter), cast("Any", None)
    try:
        server.prepare(bind(control.config.admin, BACKLOG), Operations(upgrades or ScriptedUpgrades(), unused, unused))
        await server.answer()
        yield Port(control, server)
    finally:
        await server.stop()


async def until(condition: Any, what: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is awaited happens in the kernel and in code that must not know
            await asyncio.sleep(0.005)
    assert condition(), what


def waiting(port: Port) -> int:
    """Callers that wait for the drain's end."""
    return len(guards_of(port).waiting)


def guards_of(port: Port) -> guard.Guards:
    found = port.server._guards
    assert isinstance(found, guard.Guards)
    return found


# --- probes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
async def test_live_whatever_the_app_and_the_drain_do(path: str) -> None:
    async with serving(ready=False) as port:
        assert (await port.ask(path))[0] == 200
        port.control.drain(Trigger.HTTP)
        port.control.wait(10)
        assert (await port.ask(path))[::2] == (200, "live\n")


async def test_probes_follow_the_app_and_say_why() -> None:
    async with serving(ready=False) as port:
        port.control.views = [view(port.control.config, healthy=False, reason="connection refused\n<b>")]
        code, _, text = await port.ask("/startupz")
        assert (code, text) == (503, '"starting: connection refused\\n<b>"\n')
        code, _, text = await port.ask("/readyz")
        assert (code, text.count("\n")) == (503, 1)
        port.control.machine.upstream(reachable=True, healthy=True, gate=None)
        assert (await port.ask("/startupz"))[0] == 200
        assert (await port.ask("/readyz"))[::2] == (200, "ready\n")
        port.control.machine.upstream(reachable=True, healthy=False, gate=None)
        assert (await port.ask("/readyz"))[0] == 503
        assert (await port.ask("/startupz"))[0] == 200, "once started, always started"


async def test_readiness_fails_with_the_drain_and_comes_back_with_the_resume() -> None:
    async with serving() as port:
        await port.ask("/drain?wait=0")
        assert (await port.ask("/readyz"))[::2] == (503, "draining: propagating\n")
        await port.ask("/resume", "POST")
        assert (await port.ask("/readyz"))[0] == 200


# --- drain ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_drain_answers_when_it_is_over(method: str) -> None:
    async with serving() as port:
        asked = asyncio.create_task(port.ask("/drain", method))
        await until(lambda: waiting(port) == 1, "the caller to wait")
        port.control.wait(5)
        assert not asked.done()
        port.control.wait(1)
        code, headers, text = await asked
        assert (code, headers["content-type"]) == (200, "application/json")
        summary = json.loads(text)
        assert (summary["outcome"], summary["trigger"], summary["elapsed_s"]) == ("clean", "http", 6.0)


async def test_everyone_who_joins_gets_the_same_answer_at_once() -> None:
    async with serving() as port:
        asked = [asyncio.create_task(port.ask(f"/drain?trigger={who}")) for who in ("cli", "http", "cli")]
        await until(lambda: waiting(port) == 3, "all to wait")
        port.control.wait(6)
        answers = [(code, text) for code, _, text in await asyncio.gather(*asked)]
        assert len(set(answers)) == 1
        assert await port.ask("/drain") == (200, *(await port.ask("/drain"))[1:]), "at once when it is over already"
        assert sum(port.control.meter.drains.values()) == 1


async def test_the_trigger_of_the_command_line_is_told_apart() -> None:
    async with serving() as port:
        code, _, text = await port.ask("/drain?wait=0&trigger=cli")
        assert (code, json.loads(text)["trigger"]) == (202, "cli")
        assert json.loads(text)["outcome"] is None


@pytest.mark.parametrize("query", ["", "?wait=1", "?wait=yes&event=maybe", "?trigger=%00%ff&a&&="])
async def test_a_strange_query_never_prevents_the_drain(query: str) -> None:
    async with serving() as port:
        asked = asyncio.create_task(port.ask(f"/drain{query}"))
        await until(lambda: waiting(port) == 1, "the caller to wait")
        port.control.wait(6)
        assert (await asked)[0] == 200


async def test_a_caller_that_goes_away_changes_nothing_and_waits_no_more() -> None:
    async with serving() as port:
        _, writer = await asyncio.open_connection(*port.address)
        writer.write(b"GET /drain HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: waiting(port) == 1, "the caller to wait")
        writer.close()
        await until(lambda: waiting(port) == 0, "it to be forgotten")
        assert port.control.machine.state.value == "draining"
        stays = asyncio.create_task(port.ask("/drain"))
        await until(lambda: waiting(port) == 1, "the other to wait")
        port.control.wait(6)
        assert (await stays)[0] == 200


async def test_a_forced_drain_is_504_with_what_was_cut() -> None:
    async with serving() as port:
        port.control.open()
        asked = asyncio.create_task(port.ask("/drain"))
        await until(lambda: waiting(port) == 1, "the caller to wait")
        port.control.wait(24)
        code, _, text = await asked
        assert (code, json.loads(text)["outcome"], json.loads(text)["aborted"]) == (504, "forced", 1)


async def test_a_drain_that_ended_while_requests_still_came_is_200_and_says_so_with_advice() -> None:
    async with serving(quiet_limit_s=2.0) as port:
        asked = asyncio.create_task(port.ask("/drain"))
        await until(lambda: waiting(port) == 1, "the caller to wait")
        for _ in range(15):
            port.control.end(port.control.open())
            port.control.tick(0.5)
        code, _, text = await asked
        summary = json.loads(text)
        assert (code, summary["outcome"], summary["elapsed_s"]) == (200, "still-arriving", 7.0)
        assert "requests still arrive when the drain ends" in summary["advice"]
        samples = (await port.ask("/metrics"))[2]
        assert 'drainproxy_drains_total{outcome="still-arriving",trigger="http"} 1.0' in samples


async def test_a_forced_drain_with_event_is_no_answer_at_all() -> None:
    async with serving() as port:
        port.control.open()
        asked = asyncio.create_task(port.raw(b"GET /drain?event=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        await until(lambda: waiting(port) == 1, "the caller to wait")
        port.control.wait(24)
        with contextlib.suppress(ConnectionResetError):
            assert await asked == b""


async def test_a_clean_drain_with_event_is_answered() -> None:
    async with serving() as port:
        asked = asyncio.create_task(port.ask("/drain?event=1"))
        await until(lambda: waiting(port) == 1, "the caller to wait")
        port.control.wait(6)
        assert (await asked)[0] == 200


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/drain"), ("POST", "/resume")])
async def test_resume_ends_the_drain_and_tells_those_who_wait(method: str, path: str) -> None:
    async with serving() as port:
        asked = asyncio.create_task(port.ask("/drain"))
        await until(lambda: waiting(port) == 1, "the caller to wait")
        assert (await port.ask(path, method))[::2] == (200, "ready\n")
        code, _, text = await asked
        assert (code, json.loads(text)["outcome"], json.loads(text)["why"]) == (409, "resumed", "asked to resume")
        assert (await port.ask(path, method))[0] == 200, "there is nothing to resume from, and that is fine"


async def test_after_sigterm_there_is_no_way_back() -> None:
    async with serving() as port:
        port.control.terminate()
        code, _, text = await port.ask("/resume", "POST")
        assert code == 409
        assert "SIGTERM" in text
        assert port.control.machine.state.value == "draining"


async def test_head_never_drains() -> None:
    async with serving() as port:
        code, headers, _ = await port.ask("/drain", "HEAD")
        assert (code, headers["allow"]) == (405, "GET, POST, DELETE")
        assert (await port.ask("/resume"))[0] == 405
        assert port.control.machine.state.value == "ready"


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every caller comes from another machine."""
    real = guard.Guard.connection_made

    class Transport:
        def __init__(self, transport: Any) -> None:
            self._transport = transport

        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return FROM_ELSEWHERE if name == "peername" else self._transport.get_extra_info(name, default)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

    def disguised(self: guard.Guard, transport: Any) -> None:
        real(self, Transport(transport))  # type: ignore[arg-type]  # a transport in all but class

    monkeypatch.setattr(guard.Guard, "connection_made", disguised)


TOKENS = [
    ({}, 401),
    ({"Authorization": f"Bearer {TOKEN}"}, 202),
    ({"Authorization": f"bearer  {TOKEN} "}, 202),
    ({"X_Drain_Token": TOKEN}, 202),
    ({"Authorization": "Basic x", "X_Drain_Token": TOKEN}, 202),
    ({"X_Drain_Token": TOKEN + "x"}, 401),
    ({"X_Drain_Token": ""}, 401),
    ({"Authorization": "Bearer"}, 401),
    ({"Authorization": TOKEN}, 401),
    ({"X_Drain_Token": "schl\u00fcssel"}, 401),
]


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(("headers", "expected"), TOKENS)
async def test_from_elsewhere_the_token_opens(headers: dict[str, str], expected: int) -> None:
    async with serving(drain_token=TOKEN) as port:
        code, answered, text = await port.ask("/drain?wait=0", "GET", **headers)
        assert code == expected
        assert TOKEN not in text
        assert ("www-authenticate" in answered) is (expected == 401)
        assert port.control.meter.rejections[Reason.AUTH] == (expected == 401)
        assert port.control.machine.state.value == ("ready" if expected == 401 else "draining")


@pytest.mark.usefixtures("elsewhere")
async def test_resume_is_guarded_as_drain_is_and_reading_is_not() -> None:
    async with serving(drain_token=TOKEN) as port:
        assert (await port.ask("/resume", "POST"))[0] == 401
        assert (await port.ask("/drain", "DELETE"))[0] == 401
        for path in ("/livez", "/startupz", "/readyz", "/status", "/metrics", "/"):
            assert (await port.ask(path))[0] == 200, path
        assert TOKEN not in (await port.ask("/status"))[2]


@pytest.mark.usefixtures("elsewhere")
async def test_loopback_only_refuses_everyone_else_even_with_the_token() -> None:
    async with serving(drain_token=TOKEN, drain_access="loopback") as port:
        code, headers, _ = await port.ask("/drain", X_Drain_Token=TOKEN)
        assert code == 403
        assert "www-authenticate" not in headers
        assert port.control.meter.rejections[Reason.AUTH] == 1


@pytest.mark.usefixtures("elsewhere")
async def test_any_lets_everyone_drain() -> None:
    async with serving(drain_token=TOKEN, drain_access="any") as port:
        assert (await port.ask("/drain?wait=0"))[0] == 202


@pytest.mark.parametrize("access", ["token", "loopback", "any"])
async def test_the_same_pod_needs_no_token(access: str) -> None:
    async with serving(drain_token=TOKEN, drain_access=access) as port:
        assert (await port.ask("/drain?wait=0"))[0] == 202


@pytest.mark.parametrize("peer", [("127.0.0.1", 1), ("::ffff:127.0.0.1", 1, 0, 0), ("::1", 1, 0, 0)])
def test_loopback_is_the_same_pod(peer: object) -> None:
    assert Access(Config(drain_access="loopback")).refusal(peer, {}) is None


@pytest.mark.parametrize("peer", [None, "", b"", ("192.0.2.9", 1), ("::ffff:192.0.2.9", 1), ("fe80::1%eth0", 1, 0, 2)])
def test_a_peer_that_is_elsewhere_or_cannot_be_told_is_not(peer: object) -> None:
    assert Access(Config(drain_access="loopback")).refusal(peer, {}) is not None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Referer": "https://evil.example/page"}, 403),
        ({"Referer": "http://[::1"}, 403),
        ({"Host": "evil.example:9081"}, 421),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
        ({"Host": "[::1"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Sec_Fetch_Site": "same-origin"}, 202),
        ({"Sec_Fetch_Site": "none"}, 202),
        ({"Host": "localhost:8001", "Referer": "http://localhost:8001/"}, 202),
        ({"Host": "10.1.2.3"}, 202),
        ({"Host": "[fd00::7]:9081"}, 202),
    ],
)
async def test_a_web_page_of_another_site_cannot_drain_through_its_readers_loopback(
    headers: dict[str, str], expected: int
) -> None:
    async with serving() as port:
        code, answered, _ = await port.ask("/drain?wait=0", "POST", **headers)
        assert code == expected
        assert not any(name.startswith("access-control") for name in answered)


async def test_a_name_that_was_given_is_known_and_probes_are_answered_under_any() -> None:
    async with serving(admin_host=("drainproxy.shop.svc",)) as port:
        assert (await port.ask("/status", Host="Drainproxy.Shop.svc:9081"))[0] == 200
        code, _, said = await port.ask("/status", Host="evil.example")
        assert code == 421
        assert "--admin-host" in said
        assert port.server._meter.rejections[Reason.AUTH] == 1
        for probe in ("/livez", "/healthz", "/startupz", "/readyz", "/metrics"):
            assert (await port.ask(probe, Host="app.example"))[0] in (200, 503)


@pytest.mark.usefixtures("elsewhere")
async def test_a_rotated_token_file_counts_at_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    async with serving(drain_token_file=str(file)) as port:
        assert (await port.ask("/resume", "POST", X_Drain_Token="first"))[0] == 200
        file.write_text("second\n")
        assert (await port.ask("/resume", "POST", X_Drain_Token="first"))[0] == 401
        assert (await port.ask("/resume", "POST", X_Drain_Token="second"))[0] == 200
        file.unlink()
        assert (await port.ask("/resume", "POST", X_Drain_Token="second"))[0] == 200, "the last one stays in force"
        assert (await port.ask("/resume", "POST"))[0] == 401


@pytest.mark.parametrize("content", [None, "", " \n", "x" * 5000])
async def test_a_token_file_without_a_token_stops_the_start(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match="--drain-token-file"):
        async with serving(drain_token_file=str(file)):
            pass


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_status_has_totals_only_when_asked() -> None:
    async with serving() as port:
        port.control.meter.transferred(3, 4)
        assert "totals" not in json.loads((await port.ask("/status"))[2])
        document = json.loads((await port.ask("/status?totals=1"))[2])
        assert document["totals"] == {"requests": 0, "bytes_in": 3, "bytes_out": 4}


async def test_metrics_speak_both_formats_and_a_read_is_noticed() -> None:
    async with serving() as port:
        _, headers, text = await port.ask("/metrics")
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        assert port.control.scrapes == 1
        _, headers, text = await port.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert headers["content-type"].startswith("application/openmetrics-text")
        families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # the package types half of it
        assert {family.name for family in families} > {"drainproxy_state"}
        assert port.control.scrapes == 2
        assert (await port.ask("/metrics", "HEAD"))[0] == 200
        assert port.control.scrapes == 2, "HEAD has read nothing"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/status", "/metrics", "/", "/page.js"])
async def test_head_is_get_without_the_body(path: str) -> None:
    async with serving() as port:
        code, headers, text = await port.ask(path, "HEAD")
        assert (code, text) == (200, "")
        assert int(headers["content-length"]) > 0


async def test_an_unknown_path_is_told_where_to_look() -> None:
    async with serving() as port:
        for path in ("/nope", "/drain/", "//", "/STATUS"):
            code, _, text = await port.ask(path)
            assert code == 404, path
            assert text.count("\n") == 1
            assert "/readyz" in text


async def test_the_page_needs_nothing_from_elsewhere_and_allows_nothing_inline() -> None:
    async with serving() as port:
        code, headers, page = await port.ask("/")
        assert (code, headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        links = re.findall(r'(?:src|href)="([^"]+)"', page)
        home = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Source"]
        assert sorted(links) == ["data:,", home, "metrics", "page.css", "page.js", "status"]
        page = page.replace(home, "")
        assert not re.search(r"\sstyle=|\son\w+=|<style|<script>", page)
        script = (await port.ask("/page.js"))[2]
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
        for text in (page, script, (await port.ask("/page.css"))[2]):
            assert not re.search(r"https?://|url\(", text), "nothing comes from elsewhere"
        asked = set(re.findall(r'\$\("([\w-]+)"\)|say\("([\w-]+)"', script))
        ids = set(re.findall(r'id="([\w-]+)"', page))
        assert {first or second for first, second in asked} <= ids, "the script speaks of what the page has"


# --- hostile callers --------------------------------------------------------------------------------------------------


async def test_a_connection_carries_one_request() -> None:
    async with serving() as port:
        request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"
        answer = await port.raw(request * 20)
        assert answer.count(b"HTTP/1.1 200") == 1
        assert b"Connection: close" in answer


async def test_a_malformed_request_is_400_and_nothing_else() -> None:
    async with serving() as port:
        answer = await port.raw(b"GET / HTTP/1.1\r\nHost x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.") and b" 400 " in answer.split(b"\r\n")[0]
        assert (await port.ask("/livez"))[0] == 200


async def test_a_head_without_end_is_dropped() -> None:
    async with serving() as port:
        head = b"GET /livez HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 1000) for n in range(200))
        with contextlib.suppress(ConnectionError):
            assert b" 200 " not in await port.raw(head)
        assert (await port.ask("/livez"))[0] == 200


async def test_a_body_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection(*port.address)
        writer.write(b"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        await until(lambda: waiting(port) == 1, "the caller to wait")
        for _ in range(200):
            writer.write(b"x" * 100_000)
            await writer.drain()
        port.control.wait(6)
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_who_says_nothing_is_dropped_in_time_and_who_waits_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "REQUEST_S", 0.1)
    async with serving() as port:
        asked = asyncio.create_task(port.ask("/drain"))
        await until(lambda: waiting(port) == 1, "the caller to wait")
        for said in (b"", b"GET /drain HTTP/1.1\r\nHost:"):
            with contextlib.suppress(ConnectionError):
                assert await port.raw(said) == b""
        assert not asked.done()
        port.control.wait(6)
        assert (await asked)[0] == 200


async def test_who_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "REQUEST_S", 0.2)
    async with serving() as port:
        for n in range(20):
            port.control.open("/" + "x" * 180 + str(n))
        slow = []
        for _ in range(50):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.connect(port.address)
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            slow.append(sock)
        assert (await port.ask("/readyz"))[0] == 200
        await until(lambda: not guards_of(port).passing, "all to be dropped")
        for sock in slow:
            sock.close()


async def test_a_crowd_of_silent_connections_makes_room_for_who_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_PASSING", 10)
    async with serving() as port:
        asked = asyncio.create_task(port.ask("/drain"))
        await until(lambda: waiting(port) == 1, "the caller to wait")
        crowd = [await asyncio.open_connection(*port.address) for _ in range(60)]
        assert (await port.ask("/readyz"))[0] == 503
        assert len(guards_of(port).passing) <= 10
        port.control.wait(6)
        assert (await asked)[0] == 200
        for _, writer in crowd:
            writer.close()


async def test_there_is_an_end_to_those_who_may_wait_but_the_drain_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_WAITING", 2)
    async with serving() as port:
        asked = [asyncio.create_task(port.ask("/drain")) for _ in range(2)]
        await until(lambda: waiting(port) == 2, "two to wait")
        assert (await port.ask("/drain"))[0] == 503
        port.control.wait(6)
        assert [code for code, _, _ in await asyncio.gather(*asked)] == [200, 200]


async def test_a_reset_while_waiting_leaves_nothing_behind() -> None:
    async with serving() as port:
        sock = socket.create_connection(port.address)
        sock.sendall(b"GET /drain HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: waiting(port) == 1, "the caller to wait")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        await until(lambda: not waiting(port) and not guards_of(port).passing, "it to be forgotten")


# --- start and stop ---------------------------------------------------------------------------------------------------


async def test_a_taken_port_stops_the_start_with_a_line_that_helps() -> None:
    async with serving() as port:
        with pytest.raises(BindError, match="stop it, or listen on another port"):
            async with serving(Config(admin=port.server.address)):
                pass


async def test_a_unix_socket_is_local(tmp_path: Path) -> None:
    path = str(tmp_path / "admin")
    async with (
        serving(Config(admin=Address(path=path), drain_access="loopback")),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
        session.get("http://x/drain?wait=0") as answer,
    ):
        assert answer.status == 202


async def test_stopping_lets_the_answer_of_a_drain_out() -> None:
    async with serving() as port:
        asked = asyncio.create_task(port.ask("/drain"))
        await until(lambda: waiting(port) == 1, "the caller to wait")
        port.control.wait(6)
        await port.server.stop()
        assert (await asked)[0] == 200


async def test_stopping_does_not_wait_for_who_waits_in_vain() -> None:
    async with serving() as port:
        asked = asyncio.create_task(port.ask("/drain"))
        await until(lambda: waiting(port) == 1, "the caller to wait")
        async with asyncio.timeout(PATIENCE_S):
            await port.server.stop()
        with pytest.raises(aiohttp.ClientError):
            await asked


# Upgrades.


async def test_an_upgrade_answers_with_who_serves_then() -> None:
    async with serving() as port:
        code, _, text = await port.ask("/upgrade", "POST")
        assert (code, json.loads(text)) == (200, {"pid": 7, "generation": 2})
        assert (await port.ask("/upgrade"))[0] == 405


@pytest.mark.parametrize(
    ("end", "code"), [(UpgradeRefusedError("a drain runs"), 409), (HandoverError("it ended before it was ready"), 500)]
)
async def test_an_upgrade_that_does_not_come_about_says_why(end: DrainproxyError, code: int) -> None:
    async with serving(upgrades=ScriptedUpgrades(end)) as port:
        assert (await port.ask("/upgrade", "POST"))[::2] == (code, f"{end}\n")


@pytest.mark.parametrize(
    ("token", "headers", "code"),
    [
        (None, {}, 403),
        (TOKEN, {}, 401),
        (TOKEN, {"X-Drain-Token": "guessed"}, 401),
        (TOKEN, {"X-Drain-Token": TOKEN}, 200),
    ],
)
async def test_who_names_a_program_shows_the_token_even_on_this_machine(
    token: str | None, headers: dict[str, str], code: int
) -> None:
    upgrades = ScriptedUpgrades()
    async with serving(drain_token=token, upgrades=upgrades) as port:
        assert (await port.ask("/upgrade?exec=/opt/new", "POST", **headers))[0] == code
    assert upgrades.programs == (["/opt/new"] if code == 200 else [])


def test_from_elsewhere_nobody_names_a_program() -> None:
    access = Access(Config(drain_token=TOKEN))
    access.load()
    refusal = access.refusal_to_run(FROM_ELSEWHERE, {"X-Drain-Token": TOKEN})
    assert refusal is not None
    assert refusal[0] == 403
