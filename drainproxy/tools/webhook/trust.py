"""How do all replicas come to the same certificate, and the API server to trust it?

Through a Secret that each may write: who writes on top of an older state is refused (409), and reads again. The bundle
is then written into the webhook configuration. Or the certificate lies in files that somebody else renews.
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import httpx2
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.types import PatchType

from drainproxy.errors import ConfigError
from drainproxy.tools.webhook.api import refused
from drainproxy.tools.webhook.certificates import Material, as_secret, current, expiry, read_secret

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from lightkube import AsyncClient

SECRETS: Any = create_namespaced_resource("", "v1", "Secret", "secrets")
CONFIGURATIONS: Any = create_global_resource(
    "admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"
)
_ATTEMPTS = 5
"""At the Secret: each time another replica was faster, and then there is nothing left to do."""


class Trust:
    """The TLS context that is served with. `expires` is None until there is a certificate."""

    def __init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.expires: datetime | None = None
        self._served: tuple[bytes, bytes] | None = None

    def serve(self, certificate: bytes, key: bytes) -> None:
        """From the next handshake on. Raises ValueError or ssl.SSLError for what cannot be used."""
        if self._served == (certificate, key):
            return
        expires = expiry(certificate)
        with TemporaryDirectory() as directory:
            pair = Path(directory) / "pair.pem"
            pair.touch(mode=0o600)
            pair.write_bytes(key + certificate)
            self.context.load_cert_chain(pair)
        self._served, self.expires = (certificate, key), expires

    def serve_files(self, directory: Path) -> None:
        """`tls.crt` and `tls.key`, as cert-manager writes them. Raises ConfigError."""
        try:
            self.serve((directory / "tls.crt").read_bytes(), (directory / "tls.key").read_bytes())
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise ConfigError(
                "--tls-dir", str(directory), f"tls.crt and tls.key that belong together: {error}"
            ) from None


async def agree(client: AsyncClient, secret: str, names: Sequence[str], now: datetime) -> Material:
    """What all replicas hold for right, renewed if it is time. Raises what the API server answers."""
    for _ in range(_ATTEMPTS):
        found: dict[str, Any] = await client.get(SECRETS, secret)
        there = read_secret(found.get("data") or {})
        wanted = current(there, names, now)
        if wanted is there:
            return wanted
        try:
            await client.replace(SECRETS({**found, "data": as_secret(wanted)}))
        except httpx2.HTTPStatusError as error:
            if not refused(error, HTTPStatus.CONFLICT):
                raise
        else:
            return wanted
    raise TimeoutError(f"Secret {secret}: other replicas were faster {_ATTEMPTS} times")


async def publish(client: AsyncClient, configuration: str, bundle: bytes) -> None:
    """Have the API server trust the bundle. Raises what it answers."""
    found: dict[str, Any] = await client.get(CONFIGURATIONS, configuration)
    text = b64encode(bundle).decode()
    patch: list[dict[str, Any]] = []
    for index, each in enumerate(found.get("webhooks") or []):
        if each["clientConfig"].get("caBundle") != text:
            # The test refuses the patch where somebody has put another webhook there meanwhile.
            patch.append({"op": "test", "path": f"/webhooks/{index}/name", "value": each["name"]})
            patch.append({"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": text})
    if patch:
        await client.patch(CONFIGURATIONS, configuration, patch, patch_type=PatchType.JSON)
