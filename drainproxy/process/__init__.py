"""Child processes, signals and the duties of PID 1."""
