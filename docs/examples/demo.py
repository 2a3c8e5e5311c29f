"""What `make demo` runs: a few commands in real virtual machines, and what happened."""

import platform
import subprocess

import trio
from rich.console import Console
from rich.markup import escape

import boxlite
from boxlite.cli.progress import show_progress

IMAGE = "builtin/python"

console = Console(highlight=False)


async def boot(runtime: boxlite.Runtime, box: boxlite.Box) -> None:
    with show_progress() as stage:
        with stage(f"preparing {IMAGE} (the first time takes longer)"):
            await runtime.prepare(IMAGE)
        began = trio.current_time()
        with stage("booting a virtual machine"):
            await box.start()
    console.print(f"\n[bold]A new virtual machine booted[/] in {trio.current_time() - began:.1f} s")


async def show(box: boxlite.Box, what: str, script: str, *, input: bytes = b"", timeout: float | None = None) -> None:
    console.print(f"\n[bold]{what}[/]\n[cyan]$ {escape(script)}[/]")
    began = trio.current_time()
    done = await box.run(["sh", "-c", script], input=input, stderr=subprocess.STDOUT, timeout=timeout, check=False)
    took = trio.current_time() - began
    for line in (done.stdout or b"").decode(errors="replace").splitlines():
        console.print(f"  {escape(line)}")
    color = "green" if done.outcome == boxlite.Exited(0) else "yellow"
    console.print(f"  [{color}]{done.outcome}[/], {took:.2f} s")


async def main() -> None:
    async with boxlite.open_runtime() as runtime:
        console.print(f"[bold]Engine:[/] {escape((await runtime.engine()).reason)}")
        async with runtime.open_box(IMAGE) as box:
            await boot(runtime, box)
            await show(box, f"It has a kernel of its own; this host's is {platform.release()}", "uname -sr")
            await show(box, "Python is in the box", "python3 -c 'print(6 * 7)'")
            await show(box, "Input and output are pipes", "tr a-z A-Z | rev", input=b"hello from the host\n")
            await show(box, "Exit codes come back", "echo something went wrong >&2; exit 3")
            await show(box, "What hangs is killed, children included", "sleep 1000 & sleep 1000", timeout=2)
            await show(box, "Code that nobody should trust ...", "rm -rf /* 2>/dev/null; echo left: /*")
        async with runtime.open_box(IMAGE) as box:
            await boot(runtime, box)
            await show(box, "... harmed its own box alone", "echo here: /*")
    console.print("\nBoth machines are gone. Go on:\n  [bold].venv/bin/boxlite run -it builtin/python -- sh[/]")


trio.run(main)
