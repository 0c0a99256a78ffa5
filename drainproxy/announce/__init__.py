"""How is somebody told? Calls over HTTP and commands, with time limits and repetitions."""
