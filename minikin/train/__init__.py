"""Training: small networks, the loop that fits them, the run from data to file."""
