"""`python -m drainproxy` is the `drainproxy` command."""

from drainproxy.cli import main

if __name__ == "__main__":
    main()
