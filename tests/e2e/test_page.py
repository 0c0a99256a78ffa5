"""Does the status page show each state rightly, on any screen, by hand and by keyboard? Pictures of all, for docs.

`make page-pictures` keeps the pictures.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.admin.handlers import PAGE_HEADERS
from drainproxy.admin.server import PAGE
from drainproxy.config.options import Config
from drainproxy.drain.ledger import Kind
from drainproxy.drain.phase import Trigger
from drainproxy.observe.documents import status
from tests.support.apps import http_server
from tests.support.browser import Browser, browser
from tests.support.control import ScriptedControl, view
from tests.support.proxy import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.debian

ASSETS = Path(__file__).parents[2] / "drainproxy" / "admin"
WIDE, NARROW = (1000, 900), (360, 900)
V6 = "2001:db8:85a3:8d3:1319:8a2e:370:7348"
WORDS = "document.body.innerText"


def busy() -> ScriptedControl:
    """Some work of every kind, one with a long name, one from a long address."""
    control = ScriptedControl()
    control.open("/report?token=x", client="10.1.2.3")
    control.tick(4)
    control.open("/upload/" + "part-of-a-long-name-" * 6, "POST", client=V6)
    control.open("/shop.Cart/Watch", "POST", Kind.HTTP2, "10.1.2.4")
    control.tick(2)
    control.open("/chat", "GET", Kind.WEBSOCKET, "10.1.2.5")
    return control


def starting() -> dict[str, Any]:
    control = ScriptedControl(ready=False)
    control.views = [view(control.config, healthy=False, reason="connection refused")]
    return status(control)


def unready() -> dict[str, Any]:
    control = ScriptedControl()
    control.machine.upstream(reachable=False, healthy=False, gate=None)
    control.views = [view(control.config, healthy=False, reason="/healthz answered 500")]
    return status(control)


def held() -> dict[str, Any]:
    control = busy()
    control.generation = 3
    control.hold = lambda: {"waiting": 4, "ends_in_s": 12.0}
    control.children = lambda: [
        {"pid": 7, "number": 1, "state": "leaving", "address": "127.0.0.1:8080"},
        {"pid": 8, "number": 2, "state": "serving", "address": "127.0.0.1:41234"},
    ]
    return status(control)


def ready() -> dict[str, Any]:
    return status(busy())


def propagating() -> dict[str, Any]:
    control = busy()
    control.drain(Trigger.HTTP)
    control.tick(2.1)
    control.end(control.open())
    return status(control)


def finishing() -> dict[str, Any]:
    control = busy()
    control.drain(Trigger.SIGTERM)
    control.wait(9)
    return status(control)


def clean() -> dict[str, Any]:
    control = ScriptedControl()
    control.drain(Trigger.HTTP)
    control.tick(4.2)
    control.end(control.open())
    control.wait(5)
    return status(control)


def forced() -> dict[str, Any]:
    control = busy()
    control.open("/slow")
    control.open("/slower")
    control.drain(Trigger.HTTP)
    control.wait(25)
    return status(control)


def still_arriving() -> dict[str, Any]:
    control = ScriptedControl(Config(quiet_limit_s=5.0))
    control.drain(Trigger.HTTP)
    for _ in range(50):
        control.tick(0.2)
        control.end(control.open())
    return status(control)


def resumed() -> dict[str, Any]:
    control = ScriptedControl()
    control.drain(Trigger.CLI)
    control.tick(3)
    control.resume()
    return status(control)


STATES: dict[str, Callable[[], dict[str, Any]]] = {
    each.__name__.replace("_", "-"): each
    for each in (starting, unready, ready, propagating, finishing, clean, still_arriving, forced, resumed, held)
}


@dataclass
class Stand:
    """The page's own files, and whatever document a test gives."""

    url: str = ""
    document: dict[str, Any] = field(default_factory=dict)
    looks: int = 0


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    made = Stand()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/status":
                made.looks += 1
                totals = {"requests": 40 * made.looks, "bytes_in": 9000 * made.looks, "bytes_out": 250_000 * made.looks}
                self.say(json.dumps({**made.document, "totals": totals}).encode(), "application/json")
            elif path in PAGE:
                name, kind = PAGE[path]
                self.say((ASSETS / name).read_bytes(), kind)
            else:
                self.send_error(404)

        def say(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            for name, value in {**PAGE_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.url = f"http://127.0.0.1:{server.server_address[1]}/"
        yield made
        server.shutdown()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as made:
        yield made


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return Path(os.environ.get("DRAINPROXY_PICTURES", tmp_path))


def show(page: Browser, stand: Stand, state: str, size: tuple[int, int] = WIDE, scheme: str = "light") -> None:
    """This state, on the screen."""
    stand.document = STATES[state]()
    page.size(*size)
    page.prefer(scheme)
    page.open(stand.url)
    page.await_true("document.readyState === 'complete' && document.body.dataset.stale === 'no'")
    page.await_true("document.getElementById('rate').textContent !== '\\u2013'")


def tone(page: Browser) -> str:
    return str(page.run("getComputedStyle(document.body).getPropertyValue('--tone').trim()"))


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_shown(page: Browser, stand: Stand, pictures: Path, state: str) -> None:
    show(page, stand, state)
    page.picture(pictures / f"page-{state}.png")
    assert page.run("document.getElementById('story').textContent.length") > 10
    assert page.run("document.documentElement.scrollWidth") <= WIDE[0]


def test_colours_say_how_it_went(page: Browser, stand: Stand) -> None:
    colours = {}
    for state in ("clean", "still-arriving", "forced"):
        show(page, stand, state)
        colours[state] = tone(page)
    assert colours == {"clean": "#2a7f62", "still-arriving": "#a3690a", "forced": "#b3402f"}


def test_what_was_cut_is_listed_and_how_many_more(page: Browser, stand: Stand) -> None:
    show(page, stand, "forced")
    assert page.run("document.getElementById('cut-section').hidden") is False
    assert page.run("document.querySelectorAll('#cut tbody tr').length") == 5
    assert "and 1 more" in page.run(WORDS)
    assert "set grace-period to" in page.run(WORDS)
    show(page, stand, "clean")
    assert page.run("document.getElementById('cut-section').hidden") is True


def test_a_hold_the_processes_of_the_app_and_the_generation_are_shown(page: Browser, stand: Stand) -> None:
    show(page, stand, "held")
    words = page.run(WORDS)
    assert "New requests wait for a maintenance: 4 now." in words
    assert "generation 3" in words
    assert "leaving, pid 7, on 127.0.0.1:8080" in words
    assert "serving, pid 8, on 127.0.0.1:41234" in words


def test_a_drain_that_is_over_is_called_the_last_one(page: Browser, stand: Stand) -> None:
    show(page, stand, "resumed")
    assert "The last drain" in page.run(WORDS)
    show(page, stand, "finishing")
    assert "The last drain" not in page.run(WORDS)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_kind_and_address_never_wrap_and_nothing_sticks_out(
    page: Browser, stand: Stand, pictures: Path, size: tuple[int, int]
) -> None:
    show(page, stand, "finishing", size)
    page.picture(pictures / f"page-{'wide' if size == WIDE else 'narrow'}.png")
    lines = """[...document.querySelectorAll('#oldest .kind, #oldest .client')].map(cell => {
        const text = document.createRange(); text.selectNodeContents(cell); return text.getClientRects().length })"""
    assert set(page.run(lines)) == {1}
    assert page.run("document.documentElement.scrollWidth") <= size[0]
    assert page.run(f"document.body.innerText.includes('{V6}')")


def test_dark_mode_follows_the_reader(page: Browser, stand: Stand, pictures: Path) -> None:
    show(page, stand, "propagating", scheme="dark")
    page.picture(pictures / "page-dark.png")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"


def test_the_line_of_rates_is_there_from_the_second_look_on(page: Browser, stand: Stand) -> None:
    show(page, stand, "ready")
    points = page.run("document.getElementById('line').getAttribute('points')").split()
    assert len(points) >= 2
    assert (points[0].split(",")[0], points[-1].split(",")[0]) == ("0", "120")


def test_links_lead_to_metrics_status_and_docs(page: Browser, stand: Stand) -> None:
    show(page, stand, "ready")
    assert page.run("[...document.querySelectorAll('nav a')].map(a => a.textContent)") == ["status", "metrics", "docs"]


def test_a_screen_reader_finds_names_for_all_and_hears_changes_of_state_only(page: Browser, stand: Stand) -> None:
    show(page, stand, "forced")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]

    def named(role: str) -> list[str]:
        found = [node for node in nodes if node.get("role", {}).get("value") == role and not node.get("ignored")]
        return [node.get("name", {}).get("value", "") for node in found]

    assert len(named("button")) >= 4
    assert all(named("button"))
    assert named("heading")[0] == "drained"
    assert {"age", "kind", "request", "client"} <= set(named("columnheader"))
    assert named("progressbar") == ["the drain's time"]
    live = page.run(
        "[...document.querySelectorAll('[aria-live], [role=status], [role=alert]')].map(e => e.id || e.className)"
    )
    assert live == ["live", "state", "said"]


# On a real drainproxy.


def test_the_buttons_drain_and_resume_by_keyboard_alone(page: Browser, tmp_path: Path) -> None:
    with http_server() as app, serve(app, propagation_delay="30s", grace_period="60s") as proxy:
        page.size(*WIDE)
        page.open(proxy.await_ready().admin + "/")
        page.await_true("document.body.dataset.state === 'ready' && !document.getElementById('drain').disabled")
        assert "/drain?wait=0" in page.run("document.getElementById('drain-command').textContent")
        page.run("document.getElementById('drain').focus()")
        page.key("Enter")
        page.await_true("document.getElementById('sure').open")
        page.key("Escape")
        page.await_true("!document.getElementById('sure').open")
        assert proxy.status()["state"] == "ready"
        page.key("Enter")
        page.await_true("document.getElementById('sure').open")
        page.run("document.getElementById('yes').focus()")
        page.key("Enter")
        proxy.await_state("draining")
        page.await_true("!document.getElementById('resume').disabled")
        page.run("document.getElementById('resume').focus()")
        page.key("Enter")
        proxy.await_state("ready")
        assert page.run("document.getElementById('said').textContent") == ""


def test_a_page_of_another_site_cannot_press_them(page: Browser) -> None:
    with http_server() as app, serve(app) as proxy:
        proxy.await_ready()
        page.open(f"http://{app}/echo")
        page.await_true(f"location.host === '{app}' && document.body !== null")
        drain = f"{proxy.admin}/drain?wait=0"
        page.run(f"fetch('{drain}', {{method: 'POST', mode: 'no-cors'}}).then(() => 1, () => 0)")
        page.run(f"new Promise(r => {{ const i = new Image(); i.onload = i.onerror = () => r(1); i.src = '{drain}' }})")
        assert proxy.status()["state"] == "ready"
        assert proxy.metric("drainproxy_rejected_total", reason="auth") == 2


def test_what_the_server_refuses_is_said(page: Browser) -> None:
    with http_server() as app, serve(app, propagation_delay="30s", grace_period="60s", resume_after="never") as proxy:
        page.open(proxy.await_ready().admin + "/")
        page.await_true("document.body.dataset.state === 'ready'")
        proxy.process.terminate()
        proxy.await_state("draining")
        page.await_true("!document.getElementById('resume').disabled")
        page.run("document.getElementById('resume').click()")
        page.await_true("document.getElementById('said').textContent.startsWith('409: SIGTERM')")
