"""How does a version leave the house? `make release` runs this on a clean checkout."""
