"""What does drainproxy cost next to other proxies? `python -m tests.bench` tells."""
