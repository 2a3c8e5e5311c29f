"""What the ready-made instruments record."""
