"""Training a profile's plan, and comparing its predictions with the measured time and memory."""
