"""What people on call look at: rules, alerts and boards over our metrics, as the files in `deploy/monitoring`."""
