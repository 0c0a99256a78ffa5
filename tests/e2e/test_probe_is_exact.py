"""Does probe count each way to fail exactly? A server that keeps count of what it did, and wrk as a second witness."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.support.apps import need
from tests.support.failing_server import FailingServer


@pytest.mark.parametrize("fresh", ["0%", "50%", "100%"])
def test_every_class_is_counted_as_often_as_the_server_did_it(fresh: str) -> None:
    options = ["--rate", "100", "--duration", "2s", "--fresh", fresh, "--connections", "4", "--timeout", "20s"]
    with FailingServer().running() as server:
        command = [sys.executable, "-m", "drainproxy", "probe", f"http://127.0.0.1:{server.port}/", "-o", "json"]
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    (target,) = json.loads(done.stdout)["targets"]
    assert target["sent"] == server.counts.total() > 50
    assert target["unfinished"] == 0
    assert {each["class"]: each["count"] for each in target["failures"]} == {
        fate: count for fate, count in server.counts.items() if fate
    }


@pytest.mark.debian
def test_wrk_sees_as_many_failures_though_it_has_one_number_for_four_classes() -> None:
    wrk = need("wrk", "wrk")
    with FailingServer().running() as server:
        argv = [wrk, "-t1", "-c2", "-d1", f"http://127.0.0.1:{server.port}/"]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    counts = server.counts
    lumped = counts["empty reply"] + counts["reset"] + counts["cut body"] + counts["bad reply"]
    errors, statuses = re.search(r"read (\d+)", said), re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    assert errors is not None, said
    assert statuses is not None, said
    in_flight_at_its_end = 2
    assert abs(int(errors[1]) - lumped) <= in_flight_at_its_end
    assert abs(int(statuses[1]) - counts["503"]) <= in_flight_at_its_end
