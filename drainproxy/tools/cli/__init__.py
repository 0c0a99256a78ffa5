"""One small file for each verb that is not for the sidecar."""
