"""Templates: saved machines, from which the first start of a box is a restore and not a boot."""
