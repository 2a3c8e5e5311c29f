"""The agent inside the virtual machine, and the build of its root disk."""
