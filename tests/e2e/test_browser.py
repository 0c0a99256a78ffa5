"""A browser sees an app behind drainproxy as it sees it without."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.support.apps import need, nginx
from tests.support.proxy import serve

if TYPE_CHECKING:
    from pathlib import Path

QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGE = """<!doctype html><link rel=stylesheet href=style.css><p id=out>waiting</p>
<script>Promise.all(['a', 'b', 'c'].map(n => fetch('data.txt?' + n).then(r => r.text())))
.then(all => { document.getElementById('out').textContent = all.join('+') })</script>"""


def test_chromium_loads_a_page_with_its_parts(tmp_path: Path) -> None:
    chromium = need("chromium", "chromium")
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text(PAGE)
    (site / "style.css").write_text("p { color: green }")
    (site / "data.txt").write_text("part")
    with nginx(site) as address, serve(address) as proxy:
        proxy.await_ready()
        flags = [*QUIET, f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=10000", "--dump-dom"]
        dom = subprocess.run(
            [chromium, *flags, f"{proxy.url}/index.html"], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        assert "part+part+part" in dom
        assert proxy.metric("drainproxy_requests_total", method="GET", code="200") >= 5
