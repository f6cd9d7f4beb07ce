"""What hardware is here, how much of its memory may be used, and how much is. Importing this loads no torch."""

from compass.device.ceiling import Ceiling, CeilingTooLow
from compass.device.process import ProcessMemory, process_memory

__all__ = ["Ceiling", "CeilingTooLow", "ProcessMemory", "process_memory"]
