"""Training by a profile's plan, and what became of its promises."""
