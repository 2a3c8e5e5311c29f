"""What actors say to each other."""

from __future__ import annotations

from typing import Generic, TypeVar

R_co = TypeVar("R_co", covariant=True)


class Message(Generic[R_co]):
    """The base of all messages; its parameter is the type of the reply.

    A message is an immutable value, since sender and actor both hold it:

        @attrs.frozen
        class GetCount(Message[int]):
            since: float = 0.0

    `await ref.ask(GetCount())` then is an `int` to a type checker.
    """

    __slots__ = ()
