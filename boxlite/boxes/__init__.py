"""Boxes: their lifecycle, their virtual machine, and what runs inside."""
