"""Does the hook protect the app? Rules on preStop: where it is, whom it calls, whether the call gets there."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from drainproxy.config.options import Config
from drainproxy.tools.manifest.hooks import Does, Hook, needs_shell, read_hook, shell_script
from drainproxy.tools.manifest.objects import mapping, same_namespace, tcp_ports
from drainproxy.tools.manifest.rules.base import Hit, Severity, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.tools.manifest.objects import Path
    from drainproxy.tools.manifest.rules.view import Manifests, Pods
    from drainproxy.tools.manifest.sidecar import Sidecar

_ADMIN = Config().admin.port
_GOOD_HOOK = f"""
containers:
- name: app
  lifecycle:
    preStop:
      httpGet: {{path: "/drain?event=1", port: {_ADMIN}}}
"""
_LOOPBACK = re.compile(r"localhost|127(?:\.\d+){3}|::1")
_NO_SHELL = re.compile(
    r"(?:^|/)(?:distroless/|chainguard/static|pause(?:[:@]|$)|coredns/|scratch(?:[:@]|$))|distroless"
)


def _http_drain_hooks(manifests: Manifests) -> Iterator[tuple[Pods, Sidecar, Path, dict[str, Any], Hook]]:
    """The hooks of apps that call /drain over HTTP, in Pods with drainproxy."""
    for pods, sidecar in manifests.proxied():
        for path, container, hook in pods.hooks():
            if hook.does is Does.DRAIN and hook.http is not None and container is not sidecar.container:
                yield pods, sidecar, path, hook.http, hook


@rule(
    "DP201",
    "no-drain-hook",
    Severity.ERROR,
    "drainproxy is in the Pod, but the app's container has no preStop hook that waits for it",
    why="Without the hook, the app gets SIGTERM at the moment the Pod is deleted. drainproxy still accepts requests, "
    "but the app that should answer them is gone.",
    fix="Let the preStop hook of the app's container call drainproxy's /drain. Write the port as a number.",
    example=_GOOD_HOOK,
)
def no_drain_hook(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        own = read_hook(sidecar.container)
        for index, app in pods.traffic:
            hook = read_hook(app)
            calls_admin = mapping(hook.http).get("port") == sidecar.admin_port
            if hook.does is not Does.DRAIN and not calls_admin and own.does is not Does.DRAIN:
                message = f"container {app.get('name')!r} is stopped at once: its preStop does not wait for drainproxy"
                yield Hit(pods.resource, pods.at("spec", "containers", index), message)


@rule(
    "DP202",
    "hook-on-sidecar",
    Severity.ERROR,
    "the drain hook is on drainproxy's container, not on the app's",
    why="A hook delays the SIGTERM of its own container only. On the sidecar, it keeps the sidecar running while the "
    "app is stopped at once, with all requests in flight.",
    fix="Move the hook to the app's container.",
    example=_GOOD_HOOK,
)
def hook_on_sidecar(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        if read_hook(sidecar.container).does is not Does.DRAIN:
            continue
        unprotected = [app for _, app in pods.traffic if read_hook(app).does is not Does.DRAIN]
        if unprotected:
            where = pods.at_sidecar("lifecycle", "preStop")
            yield Hit(
                pods.resource, where, f"container {unprotected[0].get('name')!r} has none, and is stopped at once"
            )


@rule(
    "DP203",
    "hook-named-port",
    Severity.ERROR,
    "a preStop hook names a port that is not drainproxy's",
    why="The kubelet looks a named port up in the hook's own container. If that container has no such port, the hook "
    "fails, the kubelet records an event and sends SIGTERM at once. If the name belongs to the app's port, the app "
    "gets the call of /drain.",
    fix="Write the port's number.",
    example=_GOOD_HOOK,
)
def hook_named_port(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.pods:
        for path, container, hook in pods.hooks():
            port = mapping(hook.http).get("port")
            if not isinstance(port, str) or port.isdigit():
                continue
            own = {str(each.get("name")): each["containerPort"] for _, each in tcp_ports(container)}
            where = (*path, "httpGet", "port")
            name = container.get("name")
            if port not in own:
                yield Hit(
                    pods.resource, where, f"container {name!r} has no port named {port!r}: the hook fails at once"
                )
            elif hook.does is Does.DRAIN and (pods.sidecar is None or own[port] != pods.sidecar.admin_port):
                yield Hit(pods.resource, where, f"{port!r} is port {own[port]} of {name!r} itself, not drainproxy")


@rule(
    "DP204",
    "hook-host",
    Severity.ERROR,
    "a preStop hook calls localhost, which is the node",
    why="The kubelet makes the call from the node. `host: localhost` is the node itself: the call is refused, and "
    "SIGTERM follows at once. Without `host`, the call goes to the Pod's address.",
    fix="Remove `host`.",
    example=_GOOD_HOOK,
)
def hook_host(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.pods:
        for path, _, hook in pods.hooks():
            host = str(mapping(hook.http).get("host") or "")
            if _LOOPBACK.fullmatch(host):
                yield Hit(pods.resource, (*path, "httpGet", "host"), f"host {host} is the node, not the Pod")


@rule(
    "DP205",
    "hook-https",
    Severity.ERROR,
    "the hook speaks HTTPS to drainproxy's admin port, which speaks HTTP",
    why="The TLS handshake fails, the kubelet records an event, and SIGTERM follows at once.",
    fix="Remove `scheme`, or write HTTP.",
    example=_GOOD_HOOK,
)
def hook_https(manifests: Manifests) -> Iterator[Hit]:
    for pods, _, path, http, _hook in _http_drain_hooks(manifests):
        if str(http.get("scheme", "HTTP")).upper() == "HTTPS":
            yield Hit(pods.resource, (*path, "httpGet", "scheme"), "the admin port speaks plain HTTP")


@rule(
    "DP206",
    "hook-port",
    Severity.ERROR,
    "the hook calls /drain on a port that is not drainproxy's admin port",
    why="Nothing answers on that port, or another program answers 404. The kubelet ignores the status and sends "
    "SIGTERM at once.",
    fix="Use the port of --admin.",
    example=_GOOD_HOOK,
)
def hook_port(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar, path, http, _hook in _http_drain_hooks(manifests):
        port = http.get("port")
        if isinstance(port, int) and port != sidecar.admin_port and sidecar.settings.knows("admin"):
            message = f"port {port}; drainproxy's admin port is {sidecar.admin_port}"
            yield Hit(pods.resource, (*path, "httpGet", "port"), message)


@rule(
    "DP207",
    "hook-path",
    Severity.ERROR,
    "the hook calls drainproxy, but does not wait for the drain",
    why="Only /drain answers when the drain is over; with wait=0 it answers at once. The kubelet ignores the status of "
    "the answer, so a hook with another path has no effect.",
    fix="Call /drain (with event=1 a forced drain leaves an event on the Pod).",
    example=_GOOD_HOOK,
)
def hook_path(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        for path, _, hook in pods.hooks():
            if hook.http is None:
                continue
            asked = str(hook.http.get("path", "/"))
            waits = "0" not in parse_qs(asked.partition("?")[2]).get("wait", [])
            where = (*path, "httpGet", "path")
            if hook.does is Does.HTTP and hook.http.get("port") == sidecar.admin_port:
                yield Hit(pods.resource, where, f"{asked} on the admin port does not drain; /drain does")
            elif hook.does is Does.DRAIN and not waits:
                yield Hit(
                    pods.resource, where, "wait=0 answers at once: the app gets SIGTERM while it still has traffic"
                )


@rule(
    "DP208",
    "hook-token",
    Severity.ERROR,
    "drainproxy would refuse the hook's call",
    why="With a token (or loopback access only) /drain answers the kubelet 401 or 403 without the right header. The "
    "kubelet ignores the status and sends SIGTERM at once: requests are lost and no error is shown. A header cannot "
    "read a Secret, so either the Pod spec contains the value, or the hook is a command in the app's image that calls "
    "over loopback.",
    fix="Send the same token in X-Drain-Token; with --drain-token-secret use a curl or wget hook.",
    example=f"""
containers:
- name: app
  lifecycle:
    preStop:
      httpGet:
        path: /drain?event=1
        port: {_ADMIN}
        httpHeaders:
        - {{name: X-Drain-Token, value: same-as-the-sidecars}}
""",
)
def hook_token(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar, path, _, hook in _http_drain_hooks(manifests):
        settings = sidecar.settings
        if not settings.knows("drain-access"):
            continue
        access = settings.config.access
        where = (*path, "httpGet", "httpHeaders")
        if access == "loopback":
            yield Hit(pods.resource, where, "drain-access is loopback, and the kubelet calls from the node")
        elif access == "token" and hook.token is None:
            yield Hit(pods.resource, where, "drainproxy asks for a token, and the hook sends none")
        elif access == "token" and hook.token is not None:
            expected = settings.token or _token_in_secret(pods, sidecar)
            if expected is not None and expected != hook.token:
                yield Hit(pods.resource, where, "the hook's token is not drainproxy's")


def _token_in_secret(pods: Pods, sidecar: Sidecar) -> str | None:
    """The token if its Secret is in the input."""
    name, key = sidecar.settings.token_secret or ("", "")
    for secret in pods.manifests.of("Secret"):
        if secret.name != name or not same_namespace(secret, pods.resource):
            continue
        plain = mapping(secret.data.get("stringData")).get(key)
        if plain is not None:
            return str(plain)
        encoded = mapping(secret.data.get("data")).get(key)
        try:
            return base64.b64decode(str(encoded), validate=True).decode() if encoded is not None else None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


@rule(
    "DP209",
    "admin-loopback",
    Severity.ERROR,
    "drainproxy's admin port listens on loopback, where the kubelet cannot reach it",
    why="Probes and the HTTP hook come from the node, to the Pod's address. The probes fail, and so does the hook: "
    "SIGTERM follows at once.",
    fix=f"Listen on all addresses (--admin :{_ADMIN}) and protect it with --drain-token.",
    example=f"""
env:
- {{name: DRAINPROXY_ADMIN, value: ":{_ADMIN}"}}
""",
)
def admin_loopback(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        admin = sidecar.settings.config.admin
        if _LOOPBACK.fullmatch(admin.host) or admin.path:
            yield Hit(pods.resource, pods.env_path("admin"), f"the kubelet cannot reach --admin {admin}")


@rule(
    "DP210",
    "sleep-alone",
    Severity.WARNING,
    "preStop only sleeps",
    why="If the sleep is long enough, requests stop coming before it ends. It does not protect requests that are still "
    "in flight at its end: an app that does not handle SIGTERM drops them. And it takes its full time even if there is "
    "no traffic.",
    fix="Put drainproxy in front (`drainproxy inject` turns the sleep into its floor), or make sure that the app "
    "finishes its requests after SIGTERM.",
    example=_GOOD_HOOK,
)
def sleep_alone(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.pods:
        for path, container, hook in pods.hooks():
            ours = pods.sidecar is not None and container is pods.sidecar.container
            if hook.does is Does.SLEEP and not ours and pods.sidecar is None and pods.served:
                message = f"sleeps {hook.seconds:g}s, then the app is stopped even if it still works on requests"
                yield Hit(pods.resource, path, message)


@rule(
    "DP211",
    "exec-no-shell",
    Severity.ERROR,
    "the hook runs a command that this image does not have",
    why="Distroless and scratch images have no shell, sleep or curl. The hook fails, the kubelet records an event, and "
    "SIGTERM follows at once.",
    fix="Use httpGet, or `preStop: {sleep: {seconds: N}}` (Kubernetes 1.30 and later): both need nothing in the image.",
    example=_GOOD_HOOK,
)
def exec_no_shell(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.pods:
        for path, container, hook in pods.hooks():
            image = str(container.get("image", ""))
            if needs_shell(hook) and _NO_SHELL.search(image) and "debug" not in image:
                yield Hit(pods.resource, path, f"{image} has no {hook.argv[0]}")


@rule(
    "DP212",
    "hook-without-event",
    Severity.INFO,
    "a forced drain will leave no event on the Pod",
    why="The kubelet ignores the hook's status. With event=1, a drain that had to cut work ends the hook's call "
    "without an answer. The kubelet then records FailedPreStopHook, which `kubectl get events` shows.",
    fix="Add event=1 to the hook's path.",
    example=_GOOD_HOOK,
)
def hook_without_event(manifests: Manifests) -> Iterator[Hit]:
    for pods, _, path, http, _hook in _http_drain_hooks(manifests):
        query = parse_qs(str(http.get("path", "")).partition("?")[2])
        if query.get("event") != ["1"] and "wait" not in query:
            yield Hit(
                pods.resource, (*path, "httpGet", "path"), "a forced drain is only seen in drainproxy's log and metrics"
            )


@rule(
    "DP213",
    "no-hook",
    Severity.WARNING,
    "the app gets SIGTERM while requests still come in",
    why="Removing the Pod from its Service takes time on every node, ingress controller and load balancer. The kubelet "
    "does not wait for that: without a preStop hook the app gets SIGTERM at once, and requests that arrive afterwards "
    "are refused.",
    fix="Put drainproxy in front (`drainproxy inject`), or sleep in preStop and finish requests after SIGTERM.",
    example=_GOOD_HOOK,
)
def no_hook(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.served():
        if pods.sidecar is not None:
            continue
        for index, app in pods.traffic:
            words = [str(word) for key in ("command", "args") for word in (app.get(key) or [])]
            wrapped = "run" in words and any(word.rsplit("/", 1)[-1] == "drainproxy" for word in words)
            if read_hook(app).does is Does.NOTHING and not wrapped:
                where = pods.at("spec", "containers", index)
                yield Hit(pods.resource, where, f"container {app.get('name')!r} has no preStop")


@rule(
    "DP214",
    "open-drain",
    Severity.WARNING,
    "everyone who can reach the admin port can drain the Pod",
    why="Without a token /drain answers everyone in the cluster's network: one request takes the Pod out of service.",
    fix="Set a drain token (`drainproxy inject` makes one) and send it in the hook's X-Drain-Token header.",
    example="""
env:
- {name: DRAINPROXY_DRAIN_TOKEN, value: a-long-random-text}
""",
)
def open_drain(manifests: Manifests) -> Iterator[Hit]:
    for pods, sidecar in manifests.proxied():
        settings = sidecar.settings
        known = settings.knows("drain-access", "drain-token", "drain-token-file")
        if settings.config.access == "any" and known:
            yield Hit(pods.resource, pods.at_sidecar(), "drain-access is any")


@rule(
    "DP215",
    "helper-stops-first",
    Severity.INFO,
    "another container of the Pod is stopped while the app still drains",
    why="Every container without its own preStop hook gets SIGTERM when the Pod is deleted. A cache or database proxy "
    "in the Pod is then gone while the app still serves requests that need it.",
    fix="If the app needs it, give it the same hook (`drainproxy inject --hold NAME`), or make it a native sidecar.",
    example=f"""
containers:
- name: cache
  lifecycle:
    preStop:
      httpGet: {{path: "/drain?event=1", port: {_ADMIN}}}
""",
)
def helper_stops_first(manifests: Manifests) -> Iterator[Hit]:
    for pods, _ in manifests.proxied():
        with_traffic = [index for index, _ in pods.traffic]
        for index, each in pods.apps:
            if with_traffic and index not in with_traffic and read_hook(each).does is Does.NOTHING:
                where = pods.at("spec", "containers", index)
                yield Hit(pods.resource, where, f"container {each.get('name')!r} gets SIGTERM at once")


_SHELL_LIST = re.compile(r"&&|\|\||[;&|\n]")


@rule(
    "DP216",
    "shell-keeps-sigterm",
    Severity.WARNING,
    "a shell is the container's first process, and does not pass SIGTERM on to the app",
    why="The kubelet sends SIGTERM to the first process only. A shell that runs several commands waits for each of "
    "them and does not pass the signal on. As the first process, it is not ended by the signal either. The app does "
    "not learn that it should stop, and is killed at the end of the grace period, with all requests in flight.",
    fix="Start the last command with `exec`, or trap TERM and pass it on, or use an init such as tini.",
    example="""
containers:
- name: app
  command: [sh, -c, "prepare && exec /app/server"]
""",
)
def shell_keeps_sigterm(manifests: Manifests) -> Iterator[Hit]:
    for pods in manifests.pods:
        if pods.workload.pod.get("shareProcessNamespace") is True or pods.workload.runs_to_completion:
            continue
        for index, app in pods.apps:
            key = "command" if app.get("command") else "args"
            if _keeps_sigterm(app):
                where = pods.at("spec", "containers", index, key)
                yield Hit(pods.resource, where, f"container {app.get('name')!r}: the shell does not pass SIGTERM on")


def _keeps_sigterm(container: dict[str, Any]) -> bool:
    """Whether the container is a shell that runs a list of commands, and neither `exec` nor a trap is among them.

    A shell that is given one command replaces itself by it (dash since 0.5.11, bash, busybox).
    """
    words = [str(word) for key in ("command", "args") for word in (container.get(key) or [])]
    script = shell_script(words)
    if script is None or not _SHELL_LIST.search(script.strip().rstrip(";")):
        return False
    return not re.search(r"(?:^|[\s;&|(])(?:exec|trap)\s", script)
