"""Rollouts: traffic, verdict, and the cluster in miniature."""
