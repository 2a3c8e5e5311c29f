"""Virtual machines as the host controls them: the choice of an engine, the kernel, the zygote, the processes."""
