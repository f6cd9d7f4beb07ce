"""Checks of a machine before anything is planned on it: one result each, with its remedy. Importing them loads no torch."""
