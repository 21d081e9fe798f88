"""How pods run: their processes' common parent, their life as Kubernetes tells it, their files, probes and ports."""
