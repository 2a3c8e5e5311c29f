"""Generates the code of `boxlite/v1/*.proto`: `python -m proto.generate [DIRECTORY]`, by default into this package.

For the host by betterproto2, for the guest by `proto.generate_lean`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from proto.generate_lean import lean_code, lean_types

SOURCES = Path(__file__).parent


def generate(directory: Path) -> None:
    """Writes the code of all services into `directory`; raises CalledProcessError where protoc finds fault."""
    # protoc looks for its plugin in PATH, and the plugin for ruff; both are installed beside this interpreter.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    protos = sorted(str(path) for path in SOURCES.glob("boxlite/*/*.proto"))
    descriptors = directory / "descriptors.pb"
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={SOURCES}"),
            f"--python_betterproto2_out={directory}",
            *("--python_betterproto2_opt=server_generation=async", "--python_betterproto2_opt=client_generation=async"),
            f"--descriptor_set_out={descriptors}",
            *protos,
        ],
        check=True,
        env=os.environ | {"PATH": path},
    )
    files = FileDescriptorSet.FromString(descriptors.read_bytes())
    descriptors.unlink()
    (directory / "lean").mkdir(exist_ok=True)
    (directory / "lean/messages.py").write_text(lean_code(files))
    (directory / "lean/messages.pyi").write_text(lean_types(files))


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCES)
