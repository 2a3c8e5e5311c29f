"""Protocol buffers' wire format (protobuf.dev/programming-guides/encoding), for messages that carry a table of fields.

The tables are generated, into `proto.lean.messages`. There is what boxlite/v1/*.proto needs, and no more: no groups,
maps, signed integers, floats, packed fields or scalars in a oneof; `proto.generate_lean` refuses them.
"""

from __future__ import annotations

TYPE_CHECKING = False  # What typing.TYPE_CHECKING is; importing typing takes as long as the whole agent.
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeVar

    Part = bytes | memoryview
    Field = tuple[bytes, str, int, bool, "Kind | None", Sequence[str]]
    M = TypeVar("M", bound="Message")

# Kinds of fields. The low three bits are the wire type.
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
FIXED64, FIXED32 = _FIXED64, _FIXED32
UINT64, UINT32, ENUM, BOOL = _VARINT, _VARINT | 8, _VARINT | 16, _VARINT | 24
BYTES, STRING, MESSAGE = _LENGTH, _LENGTH | 8, _LENGTH | 16

_MAX_NUMBER = (1 << 29) - 1


class WireError(ValueError):
    """The bytes are no message of the expected type."""


class Message:
    """A message: one attribute a field, with the default of proto3 where the field was not given.

    A repeated field that was not given is an empty tuple, a message that was not given None.
    """

    __slots__ = ("__dict__", "kind")
    kind: Kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self.kind is other.kind and _plain(self) == _plain(other)

    def __repr__(self) -> str:
        given = {name: value for name, value in self.__dict__.items() if value != self.kind.defaults[name]}
        return f"{self.kind.name}({', '.join(f'{name}={value!r}' for name, value in given.items())})"


class Kind:
    """A type of messages, which are made by calling it with their fields.

    No class, as messages.pyi has it for the type checker: making one takes a hundred times as long. `fields` are by
    number: tag in bytes, name, kind, whether it is repeated, type of a MESSAGE, other members of its oneof.
    """

    __slots__ = ("defaults", "fields", "name")

    def __init__(self, name: str, fields: Mapping[int, Field], defaults: Mapping[str, object]) -> None:
        self.name = name
        self.fields = fields
        self.defaults = defaults

    def __call__(self, **values: object) -> Message:
        """A message with these fields. Raises TypeError for others."""
        message = Message()
        message.kind = self
        attributes = message.__dict__
        attributes.update(self.defaults)
        attributes.update(values)
        if len(attributes) != len(self.defaults):
            raise TypeError(f"{self.name} has no fields {sorted(attributes.keys() - self.defaults.keys())}")
        return message


class Enum:
    """Names for numbers."""

    def __init__(self, **values: int) -> None:
        self.__dict__.update(values)


def _plain(message: Message) -> dict[str, object]:
    """The fields, in which a repeated one may have been any sequence."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in message.__dict__.items()}


def encode(message: Message) -> bytes:
    """The message in bytes, its fields in the order of their numbers. Takes no more steps for longer ones."""
    return b"".join(parts(message)[0])


def parts(message: Message) -> tuple[list[Part], int]:
    """As `encode`, in pieces that are to be joined, with the length of all. Long fields are not copied."""
    pieces: list[Part] = []
    size = 0
    values = message.__dict__
    for tag, name, kind, repeated, _, _ in message.kind.fields.values():
        value = values.get(name)
        if not value:
            continue
        for item in value if repeated else (value,):
            wire_type = kind & 7
            if wire_type == _VARINT:
                piece = tag + _varint(item)
            elif kind == MESSAGE:
                inner, length = parts(item)
                piece = tag + _varint(length)
                pieces.append(piece)
                pieces += inner
                size += len(piece) + length
                continue
            elif wire_type == _LENGTH:
                # Text is for people, and may quote a name that is not UTF-8: no reason to send nothing.
                content = item.encode("utf-8", "replace") if kind == STRING else item
                head = tag + _varint(len(content))
                pieces.append(head)
                size += len(head)
                piece = content
            else:
                piece = tag + item.to_bytes(8 if wire_type == _FIXED64 else 4, "little")
            pieces.append(piece)
            size += len(piece)
    return pieces, size


def decode(kind: type[M], data: Part) -> M:
    """The message in `data`. Raises `WireError`; fields with unknown numbers are skipped."""
    message = kind()
    try:
        _read(message, data)
    except (IndexError, UnicodeDecodeError) as error:
        raise WireError(f"no {message.kind.name}: {error}") from None
    return message


def _read(message: Message, data: Part) -> None:
    """Merges what `data` holds into the message."""
    values, fields = message.__dict__, message.kind.fields
    position, end = 0, len(data)
    while position < end:
        tag, position = _read_varint(data, position)
        wire_type = tag & 7
        if wire_type == _VARINT:
            value: Any
            value, position = _read_varint(data, position)
        else:
            if wire_type == _LENGTH:
                size, position = _read_varint(data, position)
            elif wire_type in (_FIXED64, _FIXED32):
                size = 8 if wire_type == _FIXED64 else 4
            else:
                raise WireError(f"wire type {wire_type} is not used")
            begin, position = position, position + size
            if position > end:
                raise WireError(f"a field of {size} bytes, of which {end - begin} are there")
            value = data[begin:position]
        number = tag >> 3
        if number not in fields:
            if not 1 <= number <= _MAX_NUMBER:
                raise WireError(f"no field has the number {number}")
            continue
        _, name, kind, repeated, message_type, alternatives = fields[number]
        if kind & 7 != wire_type:
            raise WireError(f"field {name} of {message.kind.name} has wire type {wire_type}, not {kind & 7}")
        for alternative in alternatives:
            values[alternative] = None
        if message_type is not None:
            # What comes twice of a single message is merged.
            inner = message_type() if repeated else values[name] or message_type()
            _read(inner, value)
            value = inner
        elif wire_type != _VARINT:
            value = _scalar(kind, value)
        elif kind == BOOL:
            value = value != 0
        elif kind != UINT64:
            value &= 0xFFFFFFFF
        if not repeated:
            values[name] = value
        elif values[name]:
            values[name].append(value)
        else:
            values[name] = [value]


def _scalar(kind: int, value: Part) -> bytes | str | int:
    if kind == BYTES:
        return bytes(value)
    if kind == STRING:
        return str(value, "utf-8")
    return int.from_bytes(value, "little")


def _varint(value: int) -> bytes:
    if value < 0x80:
        return value.to_bytes(1, "little")
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _read_varint(data: Part, position: int) -> tuple[int, int]:
    """The number at `position`, below 2**64, and the position after it."""
    byte = data[position]
    position += 1
    if byte < 0x80:
        return byte, position
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
        if shift >= 70:
            raise WireError("a number has more than ten bytes")
