"""What is counted, logged and told of the process."""
