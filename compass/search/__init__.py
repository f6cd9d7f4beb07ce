"""The space of configurations, what a choice in it is worth, and how to look for a better one."""
