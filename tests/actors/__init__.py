"""What the actor kernel promises."""
