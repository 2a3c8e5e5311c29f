"""The program that becomes a virtual machine of libkrun inside a jail: a Python with nothing of the shim's in it."""

from __future__ import annotations

import json
import os
from typing import NoReturn

from vmm_ffi.krun import KrunVmm
from vmm_ffi.spec import SHIM_FAILED, InstanceSpec


def main(description: str) -> NoReturn:
    """Becomes the machine of the specification, which is JSON; what fails is said and ends the process, as a shim's."""
    try:
        KrunVmm().create(InstanceSpec.from_json(json.loads(description))).enter()
    except BaseException as error:
        os.write(2, f"boxlite-shim: {str(error) or type(error).__name__}\n".encode(errors="replace"))
    finally:
        os._exit(SHIM_FAILED)
