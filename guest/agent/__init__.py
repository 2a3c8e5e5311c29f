"""The program that runs as process 1 of the virtual machine and serves the portal."""
