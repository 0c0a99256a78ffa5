"""What does drainproxy cost next to other proxies? `python -m tests.bench` measures, prints and writes docs/benchmarks.md."""
