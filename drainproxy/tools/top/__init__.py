"""What do all Pods of a rollout do right now? Their `/status`, side by side."""
