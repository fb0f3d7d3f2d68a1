"""The node: HTTP gateway, routing, the life of workers."""

from setpoint.node.config import ModelConfig, NodeConfig
from setpoint.node.node import Node, run_node

__all__ = ["ModelConfig", "Node", "NodeConfig", "run_node"]
