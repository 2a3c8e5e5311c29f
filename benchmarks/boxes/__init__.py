"""Boxes on one engine of one machine, each figure beside the bare engine, or the guest itself, doing the same."""
