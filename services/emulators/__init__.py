"""Google Cloud on this machine: Google's own emulators, and a small server that speaks GCS."""
