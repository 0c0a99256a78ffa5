"""What do the bytes say? Messages and frames to facts and back. Pure."""
