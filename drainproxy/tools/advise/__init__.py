"""Which settings does each workload need? Drains that were measured; the rules are `drain/advice.py`."""
