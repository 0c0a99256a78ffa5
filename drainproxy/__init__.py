"""drainproxy: a sidecar reverse proxy that gives graceful shutdown to apps nobody modifies."""

__version__ = "0.1.0"
