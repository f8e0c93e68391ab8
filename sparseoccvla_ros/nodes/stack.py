"""The three nodes in one process: tensors go from node to node by reference."""

from __future__ import annotations

import sys
from typing import Any

from sparseoccvla_ros.nodes.base import PARAMETER_ERRORS, ManagedNode, run_nodes
from sparseoccvla_ros.nodes.handover import HandOver
from sparseoccvla_ros.nodes.perception import PerceptionNode
from sparseoccvla_ros.nodes.planner import PlannerNode
from sparseoccvla_ros.nodes.reasoning import ReasoningNode


def build_stack(handover: HandOver | None = None, **node_arguments: Any) -> list[ManagedNode]:
    """Planner, reasoning, perception, sharing one hand-over: consumers are active before their producer."""
    handover = handover or HandOver()
    nodes: list[ManagedNode] = []
    try:
        for kind in (PlannerNode, ReasoningNode, PerceptionNode):
            nodes.append(kind(handover, **node_arguments))
    except PARAMETER_ERRORS:
        for node in nodes:
            node.destroy_node()
        raise
    return nodes


def main(args: list[str] | None = None) -> int:
    """Run the composed stack."""
    return run_nodes(build_stack, args)


if __name__ == '__main__':
    sys.exit(main())
