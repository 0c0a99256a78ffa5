"""`drainproxy upgrade`: the same handover, for people and scripts."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import http_server
from tests.support.generations import AS_HEIR, generations, load
from tests.support.proxy import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.proxy import Proxy

TOKEN = "s3cret"


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    with http_server() as address:
        yield address


def run(proxy: Proxy, *arguments: str) -> subprocess.CompletedProcess[str]:
    admin = proxy.admin.removeprefix("http://")
    command = [sys.executable, "-m", "drainproxy", "upgrade", "--admin", admin, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Another installation's drainproxy."""
    path = tmp_path / "drainproxy"
    path.write_text(f"#!{sys.executable}\nfrom drainproxy.cli import main\nmain()\n")
    path.chmod(0o755)
    return path


def test_it_returns_when_the_new_one_serves(app: str, program: Path) -> None:
    with generations(app, drain_token=TOKEN) as proxy:
        with load(proxy.url, keep_alive=False) as fresh, load(proxy.url, keep_alive=True) as kept:
            done = run(proxy)
            assert done.returncode == 0, done.stderr
            assert proxy.status()["generation"] == 2
            assert f"generation 2 serves, pid {proxy.status()['pid']};" in done.stdout
            wait_for(lambda: proxy.logged("the generation before has ended its connections"), "the end of the old one")
            done = run(proxy, "--exec", str(program), "--drain-token", TOKEN)
            assert done.returncode == 0, done.stderr
            assert proxy.status()["generation"] == 3
        assert set(fresh) == set(kept) == {"200"}


def test_it_says_why_the_old_one_stays(app: str, tmp_path: Path) -> None:
    with generations(app, program=AS_HEIR.format(does="os._exit(3)"), drain_token=TOKEN) as proxy:
        done = run(proxy)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "drainproxy: it ended before it was ready: its log says why\n"
        done = run(proxy, "--exec", str(tmp_path / "nothing"), "--drain-token", TOKEN)
        assert done.returncode == 1
        assert "No such file" in done.stderr
        proxy.ask("/drain?wait=0", "POST")
        assert run(proxy).stderr == "drainproxy: a drain runs\n"
