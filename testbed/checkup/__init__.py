"""Looks at a running cluster for the classic faults of its network, and says which it is and what to do."""

from testbed.checkup.findings import Finding
from testbed.checkup.running import RunningCluster
from testbed.checkup.subjects import examine

__all__ = ["Finding", "RunningCluster", "examine"]
