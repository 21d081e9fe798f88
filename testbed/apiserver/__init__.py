"""The Kubernetes API over HTTP, in front of a cluster's store: what ``kubectl`` and other clients talk to."""
