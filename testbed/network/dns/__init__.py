"""The cluster DNS: a real name server in a pod, told of every change as it happens."""
