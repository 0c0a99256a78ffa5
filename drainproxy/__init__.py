"""drainproxy: a sidecar reverse proxy that gives graceful shutdown to apps you cannot change."""

__version__ = "0.1.0"
