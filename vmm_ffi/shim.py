"""The process that becomes the virtual machine: it drops what it inherited, goes into its jail, and does so."""

from __future__ import annotations

import contextlib
import os
from typing import NoReturn

from vmm_ffi.child import ParentGone, end_with, forget_the_host, keep_only
from vmm_ffi.factory import VmmFactory
from vmm_ffi.jail.birth import Birth
from vmm_ffi.jail.enter import enter, jailed
from vmm_ffi.spec import SHARE_LINK, SHIM_FAILED, InstanceSpec, VmmKind


def become(
    spec: InstanceSpec,
    console: int,
    parent: int,
    *,
    birth: Birth | None = None,
    shares: int | None = None,
    factory: VmmFactory | None = None,
) -> NoReturn:
    """Runs in the forked child, whose parent must be the process `parent`; never returns and never raises.

    Standard output and error go to the descriptor `console`. With `birth`, which a machine in a jail must have, it
    begins when a byte can be read from the gate; one without a jail not at all when that ends without a byte. `shares`
    is its connection to the server of its shares, which it has as `SHARE_LINK`. What fails is said on the console, and
    ends the process with the status `SHIM_FAILED`.
    """
    try:
        ends = () if birth is None else (birth.info_end, birth.gate)
        keep_only(console, *ends, *(() if shares is None else (shares,)))
        end_with(parent)
        forget_the_host()
        if birth is not None and not jailed(spec):
            _pass(birth.gate)
            os.close(birth.info_end)
        if shares is not None:
            if birth is not None and jailed(spec):
                birth.leave(SHARE_LINK)
            # Not before the gate is closed, which may have this number.
            os.dup2(shares, SHARE_LINK)
            os.set_inheritable(SHARE_LINK, True)
        instance = (factory or VmmFactory()).vmm(spec.kind).create(spec)
        enter(spec, instance, birth, lambda: end_with(parent))
    except BaseException as error:
        os.write(2, f"boxlite-shim: {str(error) or type(error).__name__}\n".encode(errors="replace"))
    finally:
        # Whatever happened: the parent's loop must not run a second time, in this process.
        os._exit(SHIM_FAILED)


def prepare(spec: InstanceSpec) -> None:
    """For whoever forks: loads what every shim of this kind would else load for itself, which takes longer than a fork.

    And asks what is the same for all of them. What fails here fails in the shim again, where the console takes it.
    """
    if spec.kind is VmmKind.KRUN:
        with contextlib.suppress(Exception):
            from vmm_ffi.krun import KrunVmm

            instance = KrunVmm().create(spec)
            if jailed(spec):
                _ = instance.needs


def _pass(gate: int) -> None:
    if not os.read(gate, 1):
        raise ParentGone("its keeper ended before the machine began")
    os.close(gate)
