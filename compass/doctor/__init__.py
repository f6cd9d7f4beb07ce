"""Checks of a machine before anything is planned on it: one finding each, with its remedy. Importing this loads no torch."""

from compass.doctor.examination import Examination, examine
from compass.doctor.findings import Finding, Level

__all__ = ["Examination", "Finding", "Level", "examine"]
