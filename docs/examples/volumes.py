"""A box that reads a directory of this host, and writes into another one."""

import tempfile
from pathlib import Path

import trio

import boxlite


async def main(directory: Path) -> None:
    questions, answers = directory / "questions", directory / "answers"
    questions.mkdir()
    answers.mkdir()
    (questions / "first").write_text("6 * 7")
    volumes = [
        boxlite.Volume(questions, "/questions", read_only=True),
        boxlite.Volume(answers, "/answers"),
    ]
    async with boxlite.open_runtime() as runtime, runtime.open_box("builtin/python", volumes=volumes) as box:
        await box.run(["sh", "-c", 'python3 -c "print($(cat /questions/first))" > /answers/first'])
        refused = await box.run(["touch", "/questions/second"], check=False)
    print((answers / "first").read_text().strip(), refused.stderr)


with tempfile.TemporaryDirectory() as directory:
    trio.run(main, Path(directory))
