"""The pod network's forwarding as pure functions: cluster state -> flows -> text. Never imports a framework."""

from controllers.pipeline.cluster_tracer import ClusterTracer, Delivery, Ports, Trace
from controllers.pipeline.compile import (
    Compiler,
    Flows,
    Groups,
    compile_all,
    compile_flows,
    compile_groups,
    compile_program,
)
from controllers.pipeline.connections import BridgeMemory
from controllers.pipeline.dump import DumpError, learned_flows, normalise_dump, parse_dump, parse_group_dump
from controllers.pipeline.flow import Flow, Group, PipelineError
from controllers.pipeline.program import NOTHING, Part, Parts, PartsDiff, Program, ProgramDiff, diff_programs
from controllers.pipeline.tables import TABLES, Table
from controllers.pipeline.text import Names, bridge_names, flow_text, flows_text, group_text, groups_text, plan_text
from controllers.pipeline.tracer import BridgeTrace, BridgeTracer, TraceError

__all__ = [
    "NOTHING",
    "TABLES",
    "BridgeMemory",
    "BridgeTrace",
    "BridgeTracer",
    "ClusterTracer",
    "Compiler",
    "Delivery",
    "DumpError",
    "Flow",
    "Flows",
    "Group",
    "Groups",
    "Names",
    "Part",
    "Parts",
    "PartsDiff",
    "PipelineError",
    "Ports",
    "Program",
    "ProgramDiff",
    "Table",
    "Trace",
    "TraceError",
    "bridge_names",
    "compile_all",
    "compile_flows",
    "compile_groups",
    "compile_program",
    "diff_programs",
    "flow_text",
    "flows_text",
    "group_text",
    "groups_text",
    "learned_flows",
    "normalise_dump",
    "parse_dump",
    "parse_group_dump",
    "plan_text",
]
