"""How is the API server asked, and what does it look like when that fails?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
from lightkube import AsyncClient, KubeConfig
from lightkube.config.client_adapter import verify_cluster
from lightkube.core.exceptions import ConfigError

from drainproxy.errors import DrainproxyError
from drainproxy.trust import as_others

if TYPE_CHECKING:
    from http import HTTPStatus

API_ERRORS = (httpx2.HTTPError, OSError, TimeoutError)
"""Whatever keeps an answer away, the API server's refusals included: asked again later."""


class NoClusterError(DrainproxyError):
    """There is neither a service account nor a kubeconfig."""

    exit_code = 2


def connect(namespace: str | None) -> AsyncClient:
    """By the Pod's service account, whose token is read anew when it expires, else by the kubeconfig."""
    try:
        config = KubeConfig.from_env().get()
        if config is None or config.user is None:
            raise ConfigError("no context with a user is chosen")
        context = as_others(verify_cluster(config.cluster, config.user, config.abs_file))
        transport = httpx2.AsyncHTTPTransport(verify=context)
        return AsyncClient(config, namespace=namespace, field_manager="drainproxy-webhook", transport=transport)
    except (ConfigError, OSError) as error:
        raise NoClusterError(f"no cluster: neither a service account nor a kubeconfig can be read: {error}") from None


def refused(error: httpx2.HTTPStatusError, status: HTTPStatus) -> bool:
    """Whether this is what the API server answered."""
    return error.response.status_code == status.value
