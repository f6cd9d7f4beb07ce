"""Simulated machines, from a 6 GB laptop to an 80 GB datacentre card.

Multiprocessors, clocks, bandwidth, cache and tensor rates are the vendors' published figures, dense and with 32-bit
accumulation. Dispatch cost, launch floor, noise and heat are in no datasheet. They are set to typical values: a desktop
processor dispatches faster than a server's, a laptop is noisier and hotter.
"""

from __future__ import annotations

from dataclasses import dataclass

_GIB = 1024**3
_MIB = 1024**2


@dataclass(frozen=True)
class Machine:
    """A device and the host that feeds it."""

    name: str
    total_bytes: int
    """Device memory as the driver reports it."""
    n_multiprocessors: int
    vector_flops: float
    """fp32 FLOP/s outside tensor cores, at the sustained clock."""
    tf32_flops: float | None
    """FLOP/s; None if there is no such unit or it is off: fp32 matrix products then run on the vector units."""
    bf16_flops: float | None
    """FLOP/s; None if there is no such unit: bf16 is then emulated at half the vector rate."""
    bandwidth: float
    """Bytes per second."""
    l2_bytes: float
    context_bytes: int
    """Memory of the driver, the libraries' kernels and the context before the first tensor."""
    others_bytes: int = 0
    """Memory of the desktop and other programs."""
    cublas_workspace_bytes: int = 8 * _MIB + 128 * 1024
    """PyTorch's default CUBLAS_WORKSPACE_CONFIG is :4096:2:16:8; 32 MiB from Hopper on."""
    launch_floor_s: float = 2.2e-6
    """Duration of the shortest kernel."""
    dispatch_s: float = 14e-6
    """Host time to launch one kernel from Python, through PyG's message passing, torch's dispatcher and autograd."""
    startup_s: float = 5.0
    """Start of a fresh process: interpreter, libraries and context."""
    noise_share: float = 0.006
    """Standard deviation of the log of a step's time."""
    jitter_share: float = 0.02
    """Mean of the host's delays, as a share of its time in a step."""
    spike_share: float = 0.01
    """Share of steps that another activity of the machine delays."""
    boost_share: float = 0.015
    """Speed gain of a cool device, as a share."""
    boost_decay_s: float = 6.0
    """Time constant of the fall from the boost to the sustained clock."""
    drift_share: float = 0.004
    """Amplitude of slow changes of clock and temperature, as a share of a step's time."""
    spills: bool = False
    """Whether the driver moves memory that does not fit to the host instead of failing (Windows' default)."""
    spill_slowdown: float = 25.0
    """Factor on the time of a step that spills."""


MACHINES: tuple[Machine, ...] = (
    # GA106 laptop, 30 SMs at some 1.4 GHz in an 80 W case. Windows: dispatch is slower (WDDM) and memory spills.
    Machine(
        "RTX 3060 Laptop 6GB",
        6 * _GIB,
        30,
        10.9e12,
        None,
        26e12,
        336e9,
        3 * _MIB,
        380 * _MIB,
        450 * _MIB,
        launch_floor_s=3.5e-6,
        dispatch_s=22e-6,
        startup_s=8,
        noise_share=0.014,
        jitter_share=0.04,
        spike_share=0.025,
        boost_share=0.035,
        boost_decay_s=10,
        drift_share=0.008,
        spills=True,
    ),
    # GA104, 38 SMs at 1.67 GHz; a desktop with a screen attached.
    Machine(
        "RTX 3060 Ti 8GB",
        8 * _GIB,
        38,
        16.2e12,
        None,
        32.4e12,
        448e9,
        4 * _MIB,
        360 * _MIB,
        300 * _MIB,
        dispatch_s=13e-6,
        noise_share=0.008,
    ),
    # AD104, 46 SMs at 2.48 GHz. The large second-level cache of its generation changes which kernels bandwidth limits.
    Machine(
        "RTX 4070 12GB",
        12 * _GIB,
        46,
        29.1e12,
        None,
        58e12,
        504e9,
        36 * _MIB,
        400 * _MIB,
        350 * _MIB,
        dispatch_s=10e-6,
        noise_share=0.006,
    ),
    # GB206, 36 SMs at 2.57 GHz: the card for which Compass's predecessor was written. Windows too.
    Machine(
        "RTX 5060 Ti 16GB",
        16 * _GIB,
        36,
        23.7e12,
        None,
        47e12,
        448e9,
        32 * _MIB,
        480 * _MIB,
        500 * _MIB,
        launch_floor_s=3e-6,
        dispatch_s=16e-6,
        noise_share=0.01,
        spike_share=0.02,
        spills=True,
        spill_slowdown=15.0,
    ),
    # Turing, 40 SMs, 70 W: no bf16, no TF32, and passive cooling, so that the sustained clock is well under the boost.
    Machine(
        "Tesla T4 16GB",
        15 * _GIB,
        40,
        6.6e12,
        None,
        None,
        320e9,
        4 * _MIB,
        320 * _MIB,
        launch_floor_s=2.8e-6,
        dispatch_s=26e-6,
        startup_s=7,
        noise_share=0.007,
        boost_share=0.05,
        boost_decay_s=15,
        drift_share=0.01,
    ),
    # GA102, 82 SMs at 1.7 GHz.
    Machine(
        "RTX 3090 24GB",
        24 * _GIB,
        82,
        35.6e12,
        None,
        71e12,
        936e9,
        6 * _MIB,
        420 * _MIB,
        250 * _MIB,
        dispatch_s=12e-6,
        noise_share=0.007,
    ),
    # AD102, 128 SMs at 2.52 GHz.
    Machine(
        "RTX 4090 24GB",
        24 * _GIB,
        128,
        82.6e12,
        82.6e12,
        165e12,
        1008e9,
        72 * _MIB,
        460 * _MIB,
        300 * _MIB,
        dispatch_s=9e-6,
        noise_share=0.006,
    ),
    # GA100, 108 SMs at 1.41 GHz; the vendor's containers switch TF32 on. Slow server cores.
    Machine(
        "A100 40GB",
        40 * _GIB,
        108,
        19.5e12,
        156e12,
        312e12,
        1555e9,
        40 * _MIB,
        440 * _MIB,
        dispatch_s=20e-6,
        startup_s=7,
        noise_share=0.004,
        boost_share=0.0,
        drift_share=0.002,
    ),
    # AD102 for servers, 142 SMs, GDDR6 with error correction.
    Machine(
        "L40S 48GB",
        45 * _GIB,
        142,
        91.6e12,
        183e12,
        362e12,
        864e9,
        96 * _MIB,
        480 * _MIB,
        dispatch_s=16e-6,
        startup_s=6,
        noise_share=0.005,
        boost_share=0.02,
    ),
    # GH100 SXM5, 132 SMs, HBM3.
    Machine(
        "H100 80GB",
        80 * _GIB,
        132,
        67e12,
        494e12,
        989e12,
        3350e9,
        50 * _MIB,
        520 * _MIB,
        cublas_workspace_bytes=32 * _MIB,
        launch_floor_s=1.8e-6,
        dispatch_s=15e-6,
        startup_s=6,
        noise_share=0.004,
        boost_share=0.005,
        drift_share=0.002,
    ),
)


def machine_named(name: str) -> Machine:
    """The first machine whose name begins with `name`.

    Raises:
        KeyError: there is none.
    """
    for machine in MACHINES:
        if machine.name.startswith(name):
            return machine
    raise KeyError(name)
