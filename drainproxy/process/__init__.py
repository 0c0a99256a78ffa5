"""What the operating system has us do as a process: signals, children, the duties of PID 1."""
