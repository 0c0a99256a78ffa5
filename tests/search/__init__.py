"""Random drains: options, load of every protocol and events at random, in search of lost work. `make search`."""
