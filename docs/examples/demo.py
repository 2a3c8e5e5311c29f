"""What `make demo` runs: a few commands in a real virtual machine, and what happened."""

import platform

import trio
from rich.console import Console
from rich.markup import escape

import boxlite
from boxlite.cli.progress import show_progress

console = Console(highlight=False)


async def show(box: boxlite.Box, what: str, script: str, *, input: bytes = b"", timeout: float | None = None) -> None:
    console.print(f"\n[bold]{escape(what)}[/]\n[cyan]$ {escape(script)}[/]")
    began = trio.current_time()
    done = await box.run(["sh", "-c", script], check=False, input=input, stderr=-2, timeout=timeout)
    took = trio.current_time() - began
    output = (done.stdout or b"").decode(errors="replace").rstrip().splitlines()
    for line in output[-3:]:
        console.print(f"  {escape(line)}")
    color = "green" if done.outcome == boxlite.Exited(0) else "yellow"
    console.print(f"  [{color}]{done.outcome}[/], {took:.2f} s")


async def main() -> None:
    async with boxlite.open_runtime() as runtime, runtime.open_box("builtin/python", name="demo") as box:
        engine = await runtime.engine()
        console.print(f"[bold]Engine:[/] {escape(engine.reason)}")
        with show_progress() as stage:
            with stage("preparing builtin/python (a while at the first run)"):
                await runtime.prepare("builtin/python")
            began = trio.current_time()
            with stage("booting a virtual machine"):
                await box.start()
        console.print(f"The box is a virtual machine of its own; it booted in {trio.current_time() - began:.1f} s.")

        await show(box, f"It has its own kernel; this host's is {platform.release()}", "uname -sr")
        await show(box, "Python in the box", "python3 -c 'import sys; print(sys.version)'")
        await show(box, "Input and output are pipes", "tr a-z A-Z | rev", input=b"hello from the host\n")
        await show(box, "Exit codes come back", "echo 'something went wrong' >&2; exit 3")
        await show(box, "A command that hangs is killed with all its children", "sleep 1000 & sleep 1000", timeout=2)
        await show(box, "Code that nobody trusts ...", "rm -rf / --no-preserve-root; ls /")
        await show(box, "... harms its own box alone", "echo anybody there?")

    async with boxlite.open_runtime() as runtime, runtime.open_box("builtin/python") as box:
        with show_progress() as stage, stage("booting another one"):
            await box.start()
        await show(box, "The next box is as new", "ls /")
    console.print(
        "\nEverything is gone again: no process, no file. Go on with your own command:\n"
        "  [bold].venv/bin/boxlite run -it builtin/python -- sh[/]"
    )


trio.run(main)
