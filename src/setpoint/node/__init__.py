"""The node: HTTP gateway, routing, the life of workers."""

from setpoint.node.config import ModelConfig, NodeConfig
from setpoint.node.judgement import best_layout, terms_of
from setpoint.node.node import Node, run_node

__all__ = ["ModelConfig", "Node", "NodeConfig", "best_layout", "run_node", "terms_of"]
