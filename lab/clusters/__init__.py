"""What every driver with real clusters needs: kubectl, manifests, curl as a client, targets of calls."""
