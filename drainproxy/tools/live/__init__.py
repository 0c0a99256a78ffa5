"""What runs in a cluster, as the same input that files are."""
