"""The limit: the same engine and the same kernel with nothing of ours in the guest, driven by a script of its own."""
