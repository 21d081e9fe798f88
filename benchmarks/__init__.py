"""How fast the testbed is, each figure beside something to compare it with: ``python -m benchmarks [NAME]...``."""
