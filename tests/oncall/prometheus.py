"""A real Prometheus that scrapes what a test tells it to, as it would in a cluster, only more often."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from drainproxy.tools.monitoring.files import rules
from tests.support.apps import need
from tests.support.proxy import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INTERVAL_S = 0.5
LISTENING = re.compile(r'msg="Listening on" address=127\.0\.0\.1:(\d+)')
Row = dict[str, Any]


@dataclass
class Prometheus:
    """A running server. `scrape` and `forget` are what the discovery of Kubernetes does."""

    folder: Path
    process: subprocess.Popen[str]
    port: int = 0
    _targets: dict[str, dict[str, str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _lines: list[str] = field(default_factory=list)

    def scrape(self, address: str, **labels: str) -> None:
        """A Pod has come: scrape it from now on. Returns when it was scraped once."""
        with self._lock:
            self._targets[address] = labels
            self._tell()
        selector = ",".join(f'{name}="{value}"' for name, value in labels.items())
        wait_for(lambda: self.ask(f"up{{{selector}}} == 1"), f"the first scrape of {labels}")

    def forget(self, address: str) -> None:
        """A Pod has gone."""
        with self._lock:
            del self._targets[address]
            self._tell()

    def ask(self, query: str) -> list[Row]:
        """An instant query: its rows, each with `metric` and `value`."""
        found: list[Row] = self.get("query", query=query)["result"]
        return found

    def ask_range(self, query: str, since_s: float, step_s: float) -> list[Row]:
        """A query over the last `since_s` seconds: its rows, each with `metric` and `values`."""
        now = float(self.ask("time()")[1])  # type: ignore[arg-type]  # a scalar: [time, "value"]
        found: list[Row] = self.get(
            "query_range", query=query, start=str(now - since_s), end=str(now), step=str(step_s)
        )["result"]
        return found

    def get(self, what: str, **parameters: str) -> Any:
        """`/api/v1/<what>`: its data. Raises urllib.error.HTTPError for a query that is none."""
        with urllib.request.urlopen(
            f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}", timeout=30
        ) as answer:
            return json.load(answer)["data"]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def fired(self) -> set[tuple[str, str]]:
        """Alerts that fire or have fired, each with the workload it fired for."""
        rows = self.ask('count_over_time(ALERTS{alertstate="firing"}[1h])')
        return {(row["metric"]["alertname"], row["metric"].get("workload", "")) for row in rows}

    def await_evaluation(self) -> None:
        """Wait until every rule was evaluated twice with what is known now."""
        now = float(self.ask("time()")[1])  # type: ignore[arg-type]  # a scalar: [time, "value"]

        def evaluated() -> bool:
            groups = self.get("rules")["groups"]
            return all(_unix(group["lastEvaluation"]) > now + 2 for group in groups)

        wait_for(evaluated, "an evaluation")

    def await_port(self) -> None:
        """Read the log until it says where it listens, and go on reading."""
        threading.Thread(target=self._read, daemon=True).start()

        def listening() -> int:
            found = [match for line in list(self._lines) if (match := LISTENING.search(line))]
            assert self.process.poll() is None, "".join(self._lines[-20:])
            return int(found[0][1]) if found else 0

        self.port = wait_for(listening, "Prometheus")

    def _read(self) -> None:
        assert self.process.stderr is not None
        self._lines.extend(iter(self.process.stderr.readline, ""))

    def _tell(self) -> None:
        """The list of targets, replaced as a whole: Prometheus must not read half of it."""
        groups = [{"targets": [address], "labels": labels} for address, labels in self._targets.items()]
        fresh = self.folder / "targets.new"
        fresh.write_text(json.dumps(groups))
        fresh.rename(self.folder / "targets.json")


@contextmanager
def prometheus(folder: Path) -> Iterator[Prometheus]:
    """A Prometheus with our rules, which holds and evaluates in seconds what takes minutes in a cluster."""
    program = need("prometheus", "prometheus")
    settings = {
        "global": {"scrape_interval": f"{INTERVAL_S * 1000:.0f}ms", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {
                "job_name": "drainproxy",
                "scrape_timeout": f"{INTERVAL_S * 1000:.0f}ms",
                "file_sd_configs": [{"files": ["targets.json"]}],
            }
        ],
    }
    yaml = YAML()
    with (folder / "rules.yml").open("w") as file:
        yaml.dump(in_seconds(rules()), file)
    with (folder / "prometheus.yml").open("w") as file:
        yaml.dump(settings, file)
    (folder / "targets.json").write_text("[]")
    command = [
        program,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        "--web.listen-address=127.0.0.1:0",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    running = Prometheus(folder, process)
    try:
        running.await_port()
        yield running
    finally:
        process.terminate()
        process.wait(20)
        assert process.stderr is not None
        process.stderr.close()


def _unix(when: str) -> float:
    """RFC 3339 with nanoseconds to seconds."""
    return datetime.fromisoformat(re.sub(r"\.(\d{6})\d*", r".\1", when)).timestamp()


def in_seconds(rule_file: dict[str, Any]) -> dict[str, Any]:
    """The same rules and expressions, evaluated every second; what must hold for minutes must hold for seconds."""
    for group in rule_file["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = rule["for"].replace("m", "s")
    return rule_file
