"""Objects as the tables that ``kubectl get`` shows: Kubernetes' own columns (``-o wide`` those of priority 1, too)."""
