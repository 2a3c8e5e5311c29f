"""A type checker knows the type of every reply."""

from __future__ import annotations

from pathlib import Path

from mypy import api

SNIPPET = """
import attrs
from actors import Actor, ActorRef, Message

@attrs.frozen
class GetCount(Message[int]):
    pass

class Counter(Actor):
    def later(self, message: GetCount) -> None:
        reveal_type(self.defer(message))
        self.defer(message).reply("one")

async def use(ref: ActorRef) -> None:
    reveal_type(await ref.ask(GetCount()))
    right: int = await ref.ask(GetCount(), priority=True)
    answer = await ref.ask(GetCount())
    wrong: str = answer
    await ref.ask("no message")
    await ref.tell(3)
"""

EXPECTED = """
11: note: Revealed type is "actors.reply.Deferred[int]"
12: error: Argument 1 to "reply" of "Deferred" has incompatible type "str"; expected "int"  [arg-type]
15: note: Revealed type is "int"
18: error: Incompatible types in assignment (expression has type "int", variable has type "str")  [assignment]
19: error: Argument 1 to "ask" of "ActorRef" has incompatible type "str"; expected "Message[Never]"  [arg-type]
20: error: Argument 1 to "tell" of "ActorRef" has incompatible type "int"; expected "Message[Any]"  [arg-type]
"""


def test_asks_and_deferred_replies_have_the_type_that_the_message_names(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    report, problems, _ = api.run(["--strict", "--no-error-summary", "--hide-error-context", str(snippet)])
    assert problems == ""
    assert [line.partition("snippet.py:")[2] for line in report.splitlines()] == EXPECTED.split("\n")[1:-1]
