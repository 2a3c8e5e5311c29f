"""QEMU by hand: boots a bare machine, saves it, and restores it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs
import trio

from benchmarks.bare.guest import PORT
from benchmarks.bare.machine import END_SECONDS, MEMORY_MIB, BareMachine, BareParts, before_end
from benchmarks.bare.monitor import Monitor
from boxlite.portal.transport import GuestSocket, listen
from boxlite.vmm.engines import EngineChoice
from vmm_ffi.qemu import PORT_NAME
from vmm_ffi.spec import Accelerator, PortSpec


@attrs.frozen
class BareSnapshot:
    """A machine that was saved while its script waited for a line."""

    memory: Path
    state: Path


@asynccontextmanager
async def restore_bare_machine(parts: BareParts, work: Path, snapshot: BareSnapshot) -> AsyncIterator[BareMachine]:
    """A copy of the saved machine, whose script waits for a line; leaving the block ends it."""
    with snapshot.state.open("rb") as state:
        backend = (*_memory_file(snapshot.memory, share=False), "-incoming", "defer")
        async with launch(parts, work, options=backend, keep=(state.fileno(),)) as (machine, monitor):
            await _restore(monitor, state.fileno())
            yield machine


async def make_bare_snapshot(parts: BareParts, work: Path) -> BareSnapshot:
    """Boots a machine and saves it, after one `echo`: what an answer needs is in its memory."""
    snapshot = BareSnapshot(work / "bare.memory", work / "bare.state")
    async with launch(parts, work, options=_memory_file(snapshot.memory, share=True)) as (machine, monitor):
        await machine.wait_ready()
        await machine.ask("echo")
        await monitor.execute("stop")
        await _share_memory(monitor)
        await monitor.execute("migrate", uri=f"exec:cat >{snapshot.state}")
        await monitor.wait_migrated()
    return snapshot


async def _restore(monitor: Monitor, state: int) -> None:
    await _share_memory(monitor)
    await monitor.execute("migrate-incoming", uri=f"fd:{state}")
    await monitor.wait_migrated()
    await monitor.execute("cont")


async def _share_memory(monitor: Monitor) -> None:
    # x-ignore-shared: the memory stays in its file. events: the end of a migration is announced.
    capabilities = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
    await monitor.execute("migrate-set-capabilities", capabilities=capabilities)


@asynccontextmanager
async def launch(
    parts: BareParts,
    work: Path,
    ports: Sequence[PortSpec] = (),
    *,
    options: Sequence[str] = (),
    keep: Sequence[int] = (),
) -> AsyncIterator[tuple[BareMachine, Monitor]]:
    """Starts QEMU, and gives the machine when its sockets are connected; leaving the block ends it.

    `options` are added to its command line, and the descriptors of `keep` are left open in it. For the others see
    `benchmarks.bare.engines.launch`.
    """
    log = work / "bare.log"
    with (
        tempfile.TemporaryDirectory(dir=work) as directory,
        listen(Path(directory, "port")) as port,
        listen(Path(directory, "qmp")) as qmp,
        log.open("ab") as output,
    ):
        others = [word for spec in ports for word in _port(PORT_NAME.format(number=spec.number), Path(spec.path))]
        process = await trio.lowlevel.open_process(
            [str(parts.engine.program), *command_line(parts, Path(directory)), *others, *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=keep,
        )
        try:
            async with AsyncExitStack() as streams:
                connected = await before_end(process, lambda: _connect(port, qmp, streams))
                if connected is None:
                    raise ConnectionError(f"the bare QEMU has ended with status {process.returncode}, see {log}")
                stream, monitor = connected
                yield BareMachine(process, stream, log), monitor
        finally:
            process.kill()
            with trio.move_on_after(END_SECONDS, shield=True):
                await process.wait()


async def _connect(port: GuestSocket, qmp: GuestSocket, streams: AsyncExitStack) -> tuple[trio.SocketStream, Monitor]:
    stream, monitor_stream = [
        await streams.enter_async_context(trio.SocketStream(trio.socket.from_stdlib_socket(await listener.accept())))
        for listener in (port, qmp)
    ]
    monitor = Monitor(monitor_stream)
    await monitor.greet()
    return stream, monitor


def command_line(parts: BareParts, directory: Path) -> list[str]:
    """The machine of a box, less what a bare guest has no use for; its sockets are in `directory`."""
    return [
        *("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"),
        *("-M", "microvm,acpi=off", *_processor(parts.engine), "-m", f"{MEMORY_MIB}M"),
        *(
            "-kernel",
            str(parts.kernel),
            "-append",
            " ".join((*_kernel_arguments(parts.engine), *parts.kernel_arguments)),
        ),
        *(argument for index, disk in enumerate(parts.disks) for argument in _disk(index, disk)),
        *("-chardev", "stdio,id=console,signal=off", "-device", "virtio-serial-device"),
        *("-device", "virtconsole,chardev=console", *_port(PORT, directory / "port")),
        *("-chardev", f"socket,id=qmp,path={directory}/qmp", "-mon", "chardev=qmp,mode=control"),
    ]


def _port(name: str, socket: Path) -> list[str]:
    """A virtio-serial port of this name, which leads to a Unix socket on which somebody listens."""
    return [
        *("-chardev", f"socket,id={name},path={socket}"),
        *("-device", f"virtserialport,chardev={name},name={name}"),
    ]


def _disk(index: int, disk: Path) -> list[str]:
    return [
        *("-blockdev", f"driver=raw,node-name=disk{index},read-only=on,file.driver=file,file.filename={disk}"),
        *("-device", f"virtio-blk-device,drive=disk{index}"),
    ]


def _processor(engine: EngineChoice) -> list[str]:
    if engine.accelerator is Accelerator.KVM:
        return ["-accel", "kvm", "-cpu", "host,vmx=off,svm=off", "-smp", "1"]
    return ["-accel", "tcg,thread=single", "-cpu", "max,svm=off,erms=off,fsrm=off", "-smp", "1"]


def _kernel_arguments(engine: EngineChoice) -> list[str]:
    arguments = [
        "console=hvc0",
        "root=/dev/vda",
        "ro",
        "init=/init",
        "reboot=t",
        "panic=-1",
        "quiet",
        "dummy.numdummies=0",
    ]
    if engine.accelerator is Accelerator.TCG:
        arguments += ["noreplace-smp", "no_timer_check", "mitigations=off", "norandmaps"]
        if engine.tsc_khz is not None:
            arguments += ["clocksource=tsc", "tsc=reliable", f"tsc_early_khz={engine.tsc_khz}"]
    return arguments


def _memory_file(path: Path, *, share: bool) -> list[str]:
    backend = f"memory-backend-file,id=memory,size={MEMORY_MIB}M,mem-path={path},share={'on' if share else 'off'}"
    return ["-object", backend, "-M", "memory-backend=memory"]
