"""Drainproxy in a cluster: it adds the sidecar to Pods as they are created, and tells which Pods miss it."""
