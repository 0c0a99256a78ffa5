"""Children and signals, with real processes."""
