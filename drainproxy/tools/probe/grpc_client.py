"""What does a gRPC client see during a rollout? Each request asks the standard health service (grpc.health.v1).

grpcio's own behaviour is left as it is, transparent retries included: that is what a gRPC user's code sees.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drainproxy.errors import ConfigError
from drainproxy.tools.probe import verdict
from drainproxy.tools.probe.verdict import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.tools.probe.load import Traffic
    from drainproxy.tools.probe.tls import Tls

METHOD = "/grpc.health.v1.Health/Check"
_STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_SERVING = 1
_VARINT_FIELD_1 = b"\x08"
_MAX_SHORT = 127


class GrpcClient:
    """Health checks over kept channels that take turns, and over one of its own where the traffic asks for a fresh one.

    Raises ImportError where grpcio is not installed, ConfigError. Make it inside a running loop.
    """

    def __init__(
        self,
        traffic: Traffic,
        target: str,
        service: str = "",
        *,
        tls: Tls | None = None,
    ) -> None:
        # Both are read when grpcio is imported: it must not grumble when we start the measured command.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        import grpc.aio  # noqa: PLC0415 - optional

        self.on_loss: Callable[[Reply], None] = lambda _: None
        self._grpc: Any = grpc
        self._traffic, self._target, self._tls = traffic, target, tls
        self._credentials = _credentials(grpc, tls) if tls is not None else None
        self._request = health_request(service)
        self._metadata = tuple((name.lower(), value) for name, value in traffic.headers)
        self._kept: list[Any] = [self._channel() for _ in range(traffic.connections)]
        self._used: set[int] = set()
        self._turn = 0

    async def send(self, number: int) -> Reply:
        """One Health/Check. Not SERVING is a failure, as is any gRPC status but OK (class: its name)."""
        if self._traffic.wants_fresh(number):
            channel = self._channel()
            try:
                return await self._check(channel, reused=False)
            finally:
                await channel.close()
        place = self._turn % len(self._kept)
        self._turn += 1
        reused = place in self._used
        self._used.add(place)
        return await self._check(self._kept[place], reused=reused)

    async def close(self) -> None:
        for channel in self._kept:
            await channel.close()

    async def _check(self, channel: Any, *, reused: bool) -> Reply:
        call = channel.unary_unary(METHOD)(self._request, timeout=self._traffic.timeout_s, metadata=self._metadata)
        try:
            status = health_status(await call)
            pod = str(dict(await call.initial_metadata()).get(self._traffic.pod_header.lower(), ""))
        except self._grpc.aio.AioRpcError as error:
            name = error.code().name
            late = name == "DEADLINE_EXCEEDED"
            return Reply(verdict.TIMEOUT if late else name, str(error.details() or name), reused=reused)
        name = _STATUS.get(status, str(status))
        if status != _SERVING:
            return Reply(name, f"the health service says {name}", pod=pod, reused=reused)
        return Reply(pod=pod, reused=reused)

    def _channel(self) -> Any:
        options: list[tuple[str, int | str]] = [
            # Channels to one target share connections unless told not to.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        if self._tls is not None:
            if self._tls.name:
                options.append(("grpc.ssl_target_name_override", self._tls.name))
            return self._grpc.aio.secure_channel(self._target, self._credentials, options)
        return self._grpc.aio.insecure_channel(self._target, options)


def _credentials(grpc: Any, tls: Tls) -> Any:
    """Raises ConfigError for what grpcio cannot do, and for files that cannot be read."""
    if tls.insecure:
        raise ConfigError("--insecure", "grpcs", "--cacert with the server's certificate: gRPC always verifies it")
    paths = (tls.ca, (tls.key or tls.cert) if tls.cert else None, tls.cert)
    try:
        parts = [None if path is None else Path(path).read_bytes() for path in paths]
    except OSError as error:
        raise ConfigError("--cacert, --cert, --key", error.filename, f"a PEM file ({error.strerror})") from error
    return grpc.ssl_channel_credentials(*parts)


def health_request(service: str) -> bytes:
    """HealthCheckRequest as protobuf: field 1, a string. Raises ValueError for a name over 127 bytes."""
    name = service.encode()
    if len(name) > _MAX_SHORT:
        raise ValueError(service)
    return b"\x0a" + bytes([len(name)]) + name if name else b""


def health_status(message: bytes) -> int:
    """The status of a HealthCheckResponse: field 1, an enum; absent means 0. -1: the message is something else."""
    if not message:
        return 0
    if message[:1] == _VARINT_FIELD_1 and len(message) == 2 and message[1] <= _MAX_SHORT:  # noqa: PLR2004 - tag, value
        return message[1]
    return -1
