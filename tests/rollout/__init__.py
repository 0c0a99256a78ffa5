"""Rollouts over a real network: Pods in network namespaces, a Service made by nftables."""
