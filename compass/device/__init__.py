"""Hardware: the devices of a machine, their memory, its limits and its use. Importing this loads no torch."""

from compass.device.ceiling import Ceiling, CeilingTooLow
from compass.device.fingerprint import fingerprint
from compass.device.hardware import available_cores, detect, devices, resolve
from compass.device.meter import Meter, meter_for
from compass.device.other_programs import OtherPrograms
from compass.device.process import ProcessMemory, process_memory

__all__ = [
    "Ceiling",
    "CeilingTooLow",
    "Meter",
    "OtherPrograms",
    "ProcessMemory",
    "available_cores",
    "detect",
    "devices",
    "fingerprint",
    "meter_for",
    "process_memory",
    "resolve",
]
