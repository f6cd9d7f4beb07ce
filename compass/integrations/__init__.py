"""Between Compass and someone's own code: from a script to a profile, from a plan to a trainer or a file."""
