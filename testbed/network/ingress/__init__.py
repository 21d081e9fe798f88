"""Keeps the nginx of the cluster's Ingress controllers true to the objects."""
