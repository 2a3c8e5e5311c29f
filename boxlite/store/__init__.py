"""What a runtime remembers of its boxes from one run to the next."""
