"""What runs on a laptop, in CI or in the cluster beside the sidecar, never in it: the image leaves this out."""
