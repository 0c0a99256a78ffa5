"""What does a gRPC app look like? grpcio's server with the health service; it dies on SIGTERM.

A second port answers HTTP, for the kubelet's probes.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from drainproxy.tools.cluster.plain_app import Handler, Server

if __name__ == "__main__":
    address, port, health_port = os.environ["POD_IP"], sys.argv[1], int(sys.argv[2])
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    server.add_insecure_port(f"{address}:{port}")
    server.start()
    threading.Thread(target=Server((address, health_port), Handler).serve_forever, daemon=True).start()
    server.wait_for_termination()
