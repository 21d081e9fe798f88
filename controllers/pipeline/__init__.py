"""The pod network's forwarding as pure functions: cluster state -> flows -> text. Never imports a framework."""

from controllers.pipeline.cluster_tracer import ClusterTracer, Delivery, Trace
from controllers.pipeline.compile import Compiler, Flows, compile_all, compile_flows
from controllers.pipeline.diff import FlowDiff, apply_diff, diff_flows
from controllers.pipeline.dump import DumpError, normalise_dump, parse_dump
from controllers.pipeline.flow import Flow, PipelineError
from controllers.pipeline.tables import TABLES, Table
from controllers.pipeline.text import Names, bridge_names, flow_text, flows_text, plan_text
from controllers.pipeline.tracer import BridgeTrace, BridgeTracer, TraceError

__all__ = [
    "TABLES",
    "BridgeTrace",
    "BridgeTracer",
    "ClusterTracer",
    "Compiler",
    "Delivery",
    "DumpError",
    "Flow",
    "FlowDiff",
    "Flows",
    "Names",
    "PipelineError",
    "Table",
    "Trace",
    "TraceError",
    "apply_diff",
    "bridge_names",
    "compile_all",
    "compile_flows",
    "diff_flows",
    "flow_text",
    "flows_text",
    "normalise_dump",
    "parse_dump",
    "plan_text",
]
