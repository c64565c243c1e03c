"""Pulumi's protocol messages without Pulumi's SDK.

Importing the package `pulumi` takes longer than all else these plugins do at start, and every command starts them. Its
generated protocol modules need nothing of it, so they are loaded from empty stand-ins for their parent packages.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def _stand_in_for_sdk() -> None:
    spec = importlib.util.find_spec("pulumi")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("the Python package pulumi is missing: run tools/python-env")
    directory = Path(spec.submodule_search_locations[0]).parent
    for name in ("pulumi", "pulumi.runtime", "pulumi.runtime.proto"):
        package = ModuleType(name)
        package.__path__ = [str(directory.joinpath(*name.split(".")))]
        sys.modules[name] = package


if "pulumi" not in sys.modules:
    _stand_in_for_sdk()

from pulumi.runtime.proto import (  # noqa: E402
    engine_pb2,
    engine_pb2_grpc,
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
)

__all__ = ["engine_pb2", "engine_pb2_grpc", "plugin_pb2", "provider_pb2", "provider_pb2_grpc"]
