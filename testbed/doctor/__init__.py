"""What this machine can do: facts gathered by trying, requirements checked against them, and both shown."""
