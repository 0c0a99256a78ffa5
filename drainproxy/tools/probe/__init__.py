"""Does a rollout lose requests? Steady traffic with a verdict, and a cluster in miniature."""
