"""What runs: the API, the GPU worker and the command line."""
