"""The error of every engine, for what loads nothing else."""


class VmmError(Exception):
    """The engine cannot make this virtual machine; the message says what is missing."""
