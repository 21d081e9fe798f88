"""The cluster DNS: a real name server in a pod, told of every change by RFC 2136 updates."""
