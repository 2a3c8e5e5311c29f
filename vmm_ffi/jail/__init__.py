"""What confines the process that becomes a virtual machine: namespaces, a seccomp filter, limits, a user of its own."""
