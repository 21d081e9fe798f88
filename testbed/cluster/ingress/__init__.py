"""Ingress: from Kubernetes objects to the configuration of an nginx that does what they say. Pure."""
