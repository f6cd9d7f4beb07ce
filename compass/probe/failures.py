"""The one place where out of memory is recognised, in an exception or in the last output of a process.

Only out of memory may shrink the search, so both mistakes are costly. One that is missed looks like a broken configuration;
a programming error that is mistaken for one makes all larger models infeasible.
"""

from __future__ import annotations

import errno
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from compass.errors import InputError, NonFiniteLoss, RanksDisagree
from compass.probe.last_words import reason_of_death, without_noise
from compass.records import Status

_HOME = Path(__file__).parents[1]
_OURS = tuple(str(_HOME / place) for place in ("probe", "workloads/step.py", "workloads/adapter.py"))
"""The files that call a workload."""


class MemorySign(NamedTuple):
    """A text that shows that memory ran out."""

    name: str
    pattern: re.Pattern[str]
    under_ceiling_only: bool = False
    """Whether it counts only if the process ran under a ceiling; otherwise another cause is likelier."""


def _sign(name: str, pattern: str, *, under_ceiling_only: bool = False) -> MemorySign:
    return MemorySign(name, re.compile(pattern), under_ceiling_only)


MEMORY_SIGNS: tuple[MemorySign, ...] = (
    # torch's caching allocators: "CUDA out of memory. Tried to allocate …", and its HIP and XPU twins.
    _sign("device allocator", r"(?:CUDA|HIP|XPU|MTIA|PrivateUse1) out of memory"),
    # The driver itself, outside the cache: context, kernels, pinned memory. Accelerate misses this one.
    _sign("device driver", r"(?:CUDA|HIP)(?: driver)? error[^\n]{0,80}: out of memory"),
    _sign("device driver", r"cuda runtime error \(2\)|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY"),
    _sign("device driver", r"hipErrorOutOfMemory|hipErrorMemoryAllocation"),
    _sign("NCCL", r"(?:Cuda|HIP) failure \d* ?'out of memory'"),
    _sign("cuBLAS", r"CUBLAS_STATUS_ALLOC_FAILED"),
    # cuBLAS's handle and workspace do not fit on a full device: discuss.pytorch.org/t/125450. A bad index breaks the
    # context with the same message, but then the text contains a device-side assert too (see _NOT_MEMORY).
    _sign("cuBLAS", r"CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate"),
    _sign("hipBLAS", r"HIPBLAS_STATUS_ALLOC_FAILED|rocblas_status_memory_error"),
    _sign("cuSOLVER", r"CUSOLVER_STATUS_ALLOC_FAILED"),
    _sign("cuSPARSE", r"CUSPARSE_STATUS_(?:ALLOC_FAILED|INSUFFICIENT_RESOURCES)"),
    _sign("cuFFT", r"CUFFT_ALLOC_FAILED"),
    _sign("cuDNN", r"CUDNN_STATUS_(?:ALLOC_FAILED|INTERNAL_ERROR_(?:HOST|DEVICE)_ALLOCATION_FAILED)"),
    _sign("cuDNN", r"(?i:cudnn)[^\n]{0,200}not enough memory"),
    _sign("MIOpen", r"miopenStatusAllocFailed"),
    # Messages of Unified Runtime, and of SYCL's older Plugin Interface. pytorch/pytorch#177714: XPU raises these as a plain
    # RuntimeError; open-edge-platform/physical-ai-studio#440: or dies of an uncaught sycl::exception with them.
    _sign("XPU runtime", r"(?:UR_RESULT|PI|ZE_RESULT)_ERROR_OUT_OF_(?:DEVICE_MEMORY|HOST_MEMORY|RESOURCES)"),
    _sign("MPS allocator", r"MPS backend out of memory"),
    _sign("MPS allocator", r"kIOGPUCommandBufferCallbackErrorOutOfMemory"),
    # Metal's limit for one buffer, below the device's memory.
    _sign("MPS allocator", r"Invalid buffer size: [\d.]+ [KMGT]?i?B"),
    _sign("CPU allocator", r"DefaultCPUAllocator: (?:can't allocate memory|not enough memory)"),
    _sign("CPU allocator", r"not enough memory: you tried to allocate"),
    _sign("NumPy", r"Unable to allocate [\d.]+ \S+ for an array"),
    # C++ exceptions: libstdc++, then Microsoft's library.
    _sign("C++ allocator", r"std::bad_alloc|\bbad allocation\b"),
    _sign("Python", r"^MemoryError\b"),
    # Exact case: the loader's "cannot allocate memory in static TLS block" is about the order of imports.
    _sign("operating system", r"Cannot allocate memory"),
    _sign("OpenBLAS", r"OpenBLAS(?: error)? ?: Memory allocation still failed"),
    _sign("GNU OpenMP", r"libgomp: Out of memory"),
    _sign("LLVM OpenMP", r"OMP: (?:Error|System error) #\d+: .*(?:[Oo]ut of memory|not enough memory)"),
    _sign("MKL", r"MKL (?:FATAL )?ERROR: .*(?:[Nn]ot enough|[Ii]nsufficient|[Cc]annot allocate) memory"),
    # Other process limits cause the next four as well; under a ceiling the cause is a thread's stack that does not fit.
    _sign("thread creation", r"can't start new thread", under_ceiling_only=True),
    _sign("thread creation", r"(?:^|what\(\):\s+)Resource temporarily unavailable", under_ceiling_only=True),
    _sign("GNU OpenMP", r"libgomp: Thread creation failed", under_ceiling_only=True),
    # glibc, if a new thread's storage does not fit: seen under a ceiling a few MB above the process's memory.
    _sign("thread-local storage", r"cannot allocate memory for thread-local data"),
    _sign("OpenBLAS", r"OpenBLAS blas_thread_init: pthread_create failed", under_ceiling_only=True),
    # Seen close to a ceiling: libraries that are first imported within a step …
    _sign("loader", r"failed to map segment from shared object|cannot map zero-fill pages", under_ceiling_only=True),
    # … and CPython 3.11 and 3.12, which lose the MemoryError of an import or of a compiled regular expression.
    _sign("Python", r"error return without exception set", under_ceiling_only=True),
    _sign("Python", r"returned NULL without setting an exception", under_ceiling_only=True),
    # oneDNN turns its status out_of_memory into these (uxlfoundation/oneDNN#914), and an unsupported shape too.
    _sign("oneDNN", r"could not (?:create|execute) a primitive|could not create a memory", under_ceiling_only=True),
)
_NOT_MEMORY = re.compile(r"device-side assert")
_LAST_WORDS = 2000
"""The most characters of a traceback or of stderr that are kept."""
_ENDS = 400
"""The most characters that are kept of the beginning, and of the end, of an error's own words."""
_SHOWN = 300
"""The most characters of an out-of-memory message that are shown."""
_WINDOWS_MEMORY_STATUS = {0xC0000017: "STATUS_NO_MEMORY", 0xC000012D: "STATUS_COMMITMENT_LIMIT"}
_WINDOWS_MEMORY_ERRORS = (8, 14, 1450, 1455)
"""ERROR_NOT_ENOUGH_MEMORY, ERROR_OUTOFMEMORY, ERROR_NO_SYSTEM_RESOURCES, ERROR_COMMITMENT_LIMIT."""


def classify(error: BaseException, *, ceiling: bool = True) -> tuple[Status, str]:
    """The status of a probe that raised `error` in the worker, and a line to show.

    Wrapped and chained exceptions are searched too, because `torch.utils.checkpoint` and autograd wrap. `ceiling` is
    whether the process ran under one. The result holds no reference to `error`, whose frames keep tensors alive
    (pytorch/pytorch#18853): the caller must drop `error` before the next probe.

    Raises:
        KeyboardInterrupt, SystemExit, GeneratorExit: `error` itself, because an interrupt must not be lost.
        InputError: `error` itself, because the user must correct an input and the configuration is not at fault.
    """
    if not isinstance(error, Exception) or isinstance(error, InputError):
        raise error
    for link in _chain(error):
        sign = _memory_sign(link, ceiling=ceiling)
        if sign:
            return Status.OUT_OF_MEMORY, sign
    if isinstance(error, NonFiniteLoss | RanksDisagree):
        return Status.INVALID, ", ".join([str(error), *getattr(error, "__notes__", ())])
    whole = "".join(traceback.format_exception(type(error), error, _theirs(error.__traceback__)))
    words = "".join(traceback.format_exception_only(error))
    # What is wrong stands at the beginning: torch may list fifty kernels after it.
    said = words if len(words) <= 2 * _ENDS else f"{words[:_ENDS]}…{words[-_ENDS:]}"
    return Status.INVALID, (_tail(whole.removesuffix(words), _LAST_WORDS - len(said)) + said).rstrip()


def classify_exit(returncode: int, stderr_tail: str, *, ceiling: bool) -> tuple[Status, str]:
    """The status of a probe whose worker died, and a line to show.

    Args:
        returncode: As `subprocess` gives it: negative for a signal. A shell's 128 + signal is accepted too.
        stderr_tail: The end of the worker's standard error since this probe began. Output of an earlier probe must not be
            in it: it would be taken for this one's.
        ceiling: Whether the worker ran under a memory ceiling.
    """
    sign = _find(stderr_tail, ceiling=ceiling)
    if sign:
        return Status.OUT_OF_MEMORY, sign
    if returncode & 0xFFFFFFFF in _WINDOWS_MEMORY_STATUS:
        return Status.OUT_OF_MEMORY, f"ended with {_WINDOWS_MEMORY_STATUS[returncode & 0xFFFFFFFF]}"
    number = -returncode if returncode < 0 else returncode - 128 if 128 < returncode < 128 + 65 else None
    if number == 9:
        return Status.OUT_OF_MEMORY, "killed by the kernel (SIGKILL), as it does when memory runs out"
    how = f"ended with exit code {returncode}" if number is None else f"died of {_signal_name(number)}"
    last = reason_of_death(stderr_tail) or _tail(without_noise(stderr_tail))
    return Status.CRASHED, f"{how}: {last}" if last else f"{how} without any output"


def _theirs(frames: TracebackType | None) -> TracebackType | None:
    """`frames` from the first outside Compass, because the workload's author looks for their own lines."""
    left = frames
    while left is not None and left.tb_frame.f_code.co_filename.startswith(_OURS):
        left = left.tb_next
    return left or frames


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error`, its causes and contexts, and the members of exception groups: each once."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        if isinstance(link, BaseExceptionGroup):
            waiting.extend(link.exceptions)
        waiting.extend(e for e in (link.__cause__, link.__context__) if e is not None)


def _memory_sign(error: BaseException, *, ceiling: bool) -> str | None:
    """The line that shows that `error` is out of memory, or None. Only types that the libraries raise are searched."""
    if isinstance(error, RuntimeError | MemoryError | OSError | ImportError | SystemError):
        sign = _find(str(error), ceiling=ceiling)
        if sign:
            return sign
    torch = sys.modules.get("torch")  # without torch there is no exception of torch
    if torch is not None and isinstance(error, getattr(torch, "OutOfMemoryError", ())):
        return f"device allocator: {_first_line(error)}"
    if isinstance(error, MemoryError):
        return f"Python: {_first_line(error)}"
    if isinstance(error, OSError) and (
        error.errno == errno.ENOMEM or getattr(error, "winerror", None) in _WINDOWS_MEMORY_ERRORS
    ):
        return f"operating system: {_first_line(error)}"
    return None


def _find(text: str, *, ceiling: bool) -> str | None:
    """The last sign of out of memory in `text`: its name, and the rest of its line."""
    if _NOT_MEMORY.search(text):
        return None
    for line in reversed(text.splitlines()):
        for sign in MEMORY_SIGNS:
            match = sign.pattern.search(line) if ceiling or not sign.under_ceiling_only else None
            if match:
                return f"{sign.name}: {line[match.start() :].strip()[:_SHOWN]}"
    return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:_SHOWN]


def _tail(text: str, most: int = _LAST_WORDS) -> str:
    return text if len(text) <= most else "…" + text[-most:]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
