"""The user's block inside the runtime's nurseries: which errors come out of it, and in what form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import trio

from boxlite.errors import BoxliteError, RuntimeFailed, first_error


@final
class UserBlock:
    """Carries what the user's block raises past the nurseries around it, which would wrap it in a group each.

    with block.whole():
        async with ...nurseries...:
            with block.body():
                yield
    """

    def __init__(self) -> None:
        self._entered = False
        self._raised: BaseException | None = None

    @contextmanager
    def body(self) -> Iterator[None]:
        """Around the user's block; a cancellation goes on as it is, for the nurseries to handle."""
        self._entered = True
        try:
            yield
        except BaseException as error:
            if _holds_cancelled(error):
                raise
            self._raised = error

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Around everything: raises what the block raised, as it was.

        A group of the nurseries becomes `RuntimeFailed`; where the block failed too, both come as a group. Before the
        block began, an error that this package raised on purpose comes out as it is.
        """
        try:
            yield
        except ExceptionGroup as crash:
            if not self._entered:
                raise _failed_to_open(crash)  # noqa: B904  # it has a cause of its own
            failure = RuntimeFailed("the runtime's own actors crashed; see the causes below")
            failure.__cause__ = crash
            if self._raised is None:
                raise failure from crash
            raise BaseExceptionGroup("the block and the runtime both failed", [self._raised, failure]) from None
        if self._raised is not None:
            raise self._raised


def _failed_to_open(crash: ExceptionGroup) -> BoxliteError:
    cause = first_error(crash)
    if isinstance(cause, BoxliteError):
        return cause
    failure = RuntimeFailed(f"the runtime could not be opened: {cause!r}")
    failure.__cause__ = crash
    return failure


def _holds_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)
