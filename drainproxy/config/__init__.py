"""What can be set: the options, the kinds of values, and how both are read."""
