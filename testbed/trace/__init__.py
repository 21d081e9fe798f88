"""The way of a packet through a running cluster, told from Open vSwitch's own trace and the kernels' own tables."""

from testbed.trace.cluster import Cluster
from testbed.trace.request import Request
from testbed.trace.trace import trace
from testbed.trace.values import Trace

__all__ = ["Cluster", "Request", "Trace", "trace"]
