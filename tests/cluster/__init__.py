"""Does drainproxy keep its promises on a real cluster? `make cluster`; README.md here says what it needs."""
