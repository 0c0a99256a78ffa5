"""drainproxy: a sidecar reverse proxy that gives graceful shutdown to apps you cannot change."""

__version__ = "0.2.0"


def compiled() -> bool:
    """Whether the path of the bytes was compiled when this was installed: docs/compiled.md."""
    from importlib.util import find_spec  # noqa: PLC0415 - this file runs before signals are held: see __main__

    spec = find_spec("drainproxy.protocol.http1")
    return spec is not None and not (spec.origin or "").endswith(".py")
