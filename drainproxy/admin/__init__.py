"""The admin port: probes, drain, status, metrics, and a client for them."""
