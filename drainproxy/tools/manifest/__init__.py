"""Kubernetes manifests as documents: what to add, what to find fault with. Pure."""
