"""What does one client connection's conversation mean, in both directions? Pure."""
