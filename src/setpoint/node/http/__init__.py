"""HTTP/1.1 and HTTP/2 on the event loop: parse, limit, time out, answer in order. Knows nothing of models."""

from setpoint.node.http.connection import HttpConnection
from setpoint.node.http.cors import Cors, check_origins
from setpoint.node.http.exchange import Exchange, respond_error
from setpoint.node.http.identity import TraceContext, trace_context
from setpoint.node.http.server import Handler, HttpServer
from setpoint.node.http.tls import ServerTls

__all__ = [
    "Cors",
    "Exchange",
    "Handler",
    "HttpConnection",
    "HttpServer",
    "ServerTls",
    "TraceContext",
    "check_origins",
    "respond_error",
    "trace_context",
]
