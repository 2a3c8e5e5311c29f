"""The child processes that become virtual machines: the zygote, its shims, and the engines."""
