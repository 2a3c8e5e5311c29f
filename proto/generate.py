"""Generates the code of `boxlite/v1/*.proto`: `python -m proto.generate [DIRECTORY]`, by default into this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parent
PLUGIN = "protoc-gen-python_betterproto2"


def generate(directory: Path) -> None:
    """Writes the code of all services into `directory`; raises CalledProcessError where protoc finds fault."""
    protos = sorted(str(path) for path in SOURCES.glob("boxlite/*/*.proto"))
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={SOURCES}"),
            f"--plugin={PLUGIN}={Path(sys.executable).with_name(PLUGIN)}",
            f"--python_betterproto2_out={directory}",
            *("--python_betterproto2_opt=server_generation=async", "--python_betterproto2_opt=client_generation=async"),
            *protos,
        ],
        check=True,
    )


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCES)
