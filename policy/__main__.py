"""Serves the policy pack to the engine: what policy/pack starts.

The engine passes its own address as an argument, reads the port from the first line of standard output, and ends this
process when it is done. Pulumi's own library for policy packs takes the marks off secrets before a rule sees them, and
one of the rules is about these marks: see docs/decisions/0019.
"""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict
from pulumi.runtime.proto import analyzer_pb2 as protocol
from pulumi.runtime.proto import analyzer_pb2_grpc, plugin_pb2

from policy.rules import RULES, Level, Resource, Rule

NAME, VERSION = "releve", "1.0.0"
# A request holds a whole resource: the program for servers, for one.
_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_LEVELS = {Level.MANDATORY: protocol.MANDATORY, Level.ADVISORY: protocol.ADVISORY}


class Pack(analyzer_pb2_grpc.AnalyzerServicer):
    """Asks the rules about each resource before it is made or changed. Its methods are named by the protocol."""

    def Analyze(self, request: protocol.AnalyzeRequest, _: grpc.ServicerContext) -> protocol.AnalyzeResponse:  # noqa: N802
        """What is wrong with a resource."""
        resource = Resource(request.type, request.name, MessageToDict(request.properties))
        found = [_diagnostic(rule, what, request.urn) for rule in RULES for what in rule.check(resource)]
        return protocol.AnalyzeResponse(diagnostics=found)

    def AnalyzeStack(self, _request: object, _: grpc.ServicerContext) -> protocol.AnalyzeResponse:  # noqa: N802
        """Nothing: no rule is about all resources together."""
        return protocol.AnalyzeResponse()

    def Remediate(self, _request: object, _: grpc.ServicerContext) -> protocol.RemediateResponse:  # noqa: N802
        """Nothing: no rule puts right what it finds."""
        return protocol.RemediateResponse()

    def GetAnalyzerInfo(self, _request: Empty, _: grpc.ServicerContext) -> protocol.AnalyzerInfo:  # noqa: N802
        """Which rules there are."""
        policies = [
            protocol.PolicyInfo(name=rule.name, description=rule.description, enforcementLevel=_LEVELS[rule.level])
            for rule in RULES
        ]
        return protocol.AnalyzerInfo(name=NAME, displayName="Relève", version=VERSION, policies=policies)

    def GetPluginInfo(self, _request: Empty, _: grpc.ServicerContext) -> plugin_pb2.PluginInfo:  # noqa: N802
        """Which version of the pack it is."""
        return plugin_pb2.PluginInfo(version=VERSION)


def _diagnostic(rule: Rule, what: str, urn: str) -> protocol.AnalyzeDiagnostic:
    return protocol.AnalyzeDiagnostic(
        policyName=rule.name,
        policyPackName=NAME,
        policyPackVersion=VERSION,
        description=rule.description,
        message=what,
        enforcementLevel=_LEVELS[rule.level],
        urn=urn,
    )


def main() -> None:
    """Serves until the engine says that it is done, which it does by SIGINT, or is gone itself."""
    engine, done = os.getppid(), threading.Event()
    signal.signal(signal.SIGINT, lambda *_: done.set())
    server = grpc.server(ThreadPoolExecutor(max_workers=4), options=_UNLIMITED)
    analyzer_pb2_grpc.add_AnalyzerServicer_to_server(Pack(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    while os.getppid() == engine and not done.wait(0.5):
        pass
    server.stop(grace=None)


if __name__ == "__main__":
    main()
