"""The space of configurations, the score of a choice in it, and the search for a better one."""
