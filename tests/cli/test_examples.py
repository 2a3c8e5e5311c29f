"""Every program of docs/examples runs and shows what the documentation says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import OpenProcess, read_to_end

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

SHOWN = {
    "first": r"b'42\\n' exited with code 0\n1\n2\n3\n",
    "attach": r"\[b'sh'\]\nfirst: step 1\nthen: step 1\nthen: step 2\nthen: step 3\nthen: step 4\nexited with code 7\n",
    "streaming": r"HELLO\nBOX\nend of input\nexited with code 0\n",
    "cancel": r"both sleep\ncancelled: True\nsleeps left in the box: b'0\\n'\n",
    "many": r"(?s)(?=.*worker-0: 0)(?=.*worker-1: 1)(?=.*worker-2: 4)(?=.*worker-3: 9).*",
    "pool": (
        r"(?s)(?=.*6 \* 7 = b'42\\n')(?=.*2 \*\* 10 = b'1024\\n')(?=.*sum\(range\(5\)\) = b'10\\n')"
        r".*3 boxes were used\n"
    ),
    "volumes": r"42 b'touch: /questions/second: Read-only file system\\n'\n",
    "demo": (
        r"(?s)Engine: .* 42\n  exited with code 0.*TSOH EHT MORF OLLEH\n.*exited with code 3.*timed out.*"
        r"left: /dev /proc /sys\n.*here: /bin .*/usr.*Go on:.*"
    ),
}


def test_no_example_is_forgotten_here() -> None:
    assert SHOWN.keys() == {path.stem for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", SHOWN)
async def test_an_example_shows_what_the_documentation_says(name: str, open_process: OpenProcess) -> None:
    async with open_process(str(EXAMPLES / f"{name}.py")) as process:
        shown = (await read_to_end(process.stdout)).decode()
        assert (await read_to_end(process.stderr)).decode() == ""
        assert re.fullmatch(SHOWN[name], shown), shown
    assert process.returncode == 0
