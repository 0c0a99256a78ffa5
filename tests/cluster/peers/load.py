"""What do clients see meanwhile? Steady traffic of one kind on one address until stdin ends.

Every request is a line of JSON on stdout as soon as it is over; the last line is the summary of what no request shows.
It runs where clients live: in a Pod, in a network namespace, on another machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from drainproxy.tools.probe.grpc_client import GrpcClient
from drainproxy.tools.probe.http_client import HttpClient
from drainproxy.tools.probe.load import Load, Traffic
from drainproxy.tools.probe.ws_client import WebSocketClient
from tests.cluster.peers.grpc_streams import StreamClient

if TYPE_CHECKING:
    from drainproxy.tools.probe.load import Client
    from drainproxy.tools.probe.verdict import Sample

KINDS = ("http", "websocket", "grpc", "grpc-streams")


def client_of(kind: str, address: str, paths: list[str], traffic: Traffic) -> Client:
    """Call it inside a running loop."""
    if kind == "http":
        return HttpClient(traffic, lambda number: f"http://{address}{paths[number % len(paths)]}")
    if kind == "websocket":
        return WebSocketClient(traffic, f"ws://{address}/ws", text="hello")
    if kind == "grpc":
        return GrpcClient(traffic, address)
    return StreamClient(traffic, address)


def say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def stdin_ends() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def main(options: argparse.Namespace) -> None:
    traffic = Traffic(options.connections, options.fresh, options.timeout)
    client = client_of(options.kind, options.address, options.paths, traffic)
    load = Load(client, options.rate)

    def told(sample: Sample) -> None:
        say(sample=asdict(sample))

    load.on_sample = told
    running = asyncio.create_task(load.run(), name="traffic")
    await stdin_ends()
    load.stop()
    await running
    unfinished = await load.settle(options.timeout)
    await client.close()
    closes = dict(client.closes) if isinstance(client, WebSocketClient) else {}
    say(unfinished=unfinished, closes=closes)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--fresh", type=float, required=True)
    parser.add_argument("--timeout", type=float, required=True)
    parser.add_argument("--paths", nargs="*", default=["/"])
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(parsed()))
