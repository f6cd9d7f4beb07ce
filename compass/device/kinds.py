"""The rows of `compass.records.devices`, asked of torch: availability, versions and random state of each kind of device.

`torch` is the package, or a stand-in with the same attributes. Importing this loads no torch.
"""

from __future__ import annotations

from typing import Any

from compass.records import DEVICE_KINDS, DeviceKind, device_kind


def torch_attribute(torch: Any, name: str) -> Any:
    """The attribute with the dotted `name`, such as `cuda.is_available`; None where this torch has none."""
    found = torch
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def torch_value(torch: Any, name: str) -> Any:
    """The attribute with the dotted `name`, or the result of the function with that name; None where torch has neither."""
    found = torch_attribute(torch, name)
    return found() if callable(found) else found


def present_devices(torch: Any) -> tuple[str, ...]:
    """The torch device strings of all available devices, in the order of the table."""
    found: list[str] = []
    for kind in DEVICE_KINDS.values():
        if kind.is_available and not torch_value(torch, kind.is_available):
            continue
        found += (
            [f"{kind.name}:{index}" for index in range(torch_value(torch, kind.device_count))]
            if kind.has_index
            else [kind.name]
        )
    return tuple(found)


def runtime_versions(kind: DeviceKind, torch: Any) -> dict[str, str]:
    """The versions of the libraries under torch that change time or memory on this kind; those that are set."""
    found = {name: torch_value(torch, attribute) for name, attribute in kind.versions}
    return {name: str(version) for name, version in found.items() if version}


def device_random_state(device: str, torch: Any) -> dict[str, Any]:
    """{kind: state} of the generator on `device`; empty where the device has none of its own."""
    kind = device_kind(device)
    if not kind.get_random_state:
        return {}
    return {kind.name: torch_attribute(torch, kind.get_random_state)(*_place(kind, device))}


def set_device_random_state(states: dict[str, Any], device: str, torch: Any) -> None:
    """Restore the generator on `device` from the answer of `device_random_state`; nothing where it holds no state of this kind."""
    kind = device_kind(device)
    if kind.set_random_state and kind.name in states:
        torch_attribute(torch, kind.set_random_state)(states[kind.name], *_place(kind, device))


def _place(kind: DeviceKind, device: str) -> tuple[str, ...]:
    return (device,) if kind.has_index else ()
