"""Hardware: the devices of a machine, their memory, its limits and its use. Importing this loads no torch."""

from compass.device.ceiling import Ceiling, CeilingTooLow
from compass.device.fingerprint import fingerprint
from compass.device.hardware import available_cores, detect, device_of_rank, devices, n_alike, resolve, shared_out
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
    "device_of_rank",
    "devices",
    "fingerprint",
    "meter_for",
    "n_alike",
    "process_memory",
    "resolve",
    "shared_out",
]
