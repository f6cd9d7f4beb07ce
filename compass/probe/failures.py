"""The one place where out-of-memory is recognised, in an exception or in a process's last words.

Only an out-of-memory may shrink the search, so both mistakes cost: one that is missed is taken for a broken
configuration, and a programming error taken for one makes every larger model look infeasible.
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

from compass.errors import InputError, NonFiniteLoss
from compass.records import Status

_EXTENSIONS = re.compile(r"^Extension modules: .*$", re.MULTILINE)
"""Python's fault handler ends with all that was loaded, which is long and explains nothing."""
_HOME = Path(__file__).parents[1]
_OURS = tuple(str(_HOME / place) for place in ("probe", "workloads/step.py", "workloads/completed.py"))
"""What calls a workload."""


class Face(NamedTuple):
    """One way in which running out of memory shows itself."""

    name: str
    pattern: re.Pattern[str]
    under_ceiling_only: bool = False
    """Something else is likelier to cause it, unless the process ran under a ceiling."""


def _face(name: str, pattern: str, *, under_ceiling_only: bool = False) -> Face:
    return Face(name, re.compile(pattern), under_ceiling_only)


FACES: tuple[Face, ...] = (
    # torch's caching allocators: "CUDA out of memory. Tried to allocate …", and its HIP and XPU twins.
    _face("device allocator", r"(?:CUDA|HIP|XPU|MTIA|PrivateUse1) out of memory"),
    # The driver itself, outside the cache: context, kernels, pinned memory. Accelerate misses this one.
    _face("device driver", r"(?:CUDA|HIP)(?: driver)? error[^\n]{0,80}: out of memory"),
    _face("device driver", r"cuda runtime error \(2\)|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY"),
    _face("device driver", r"hipErrorOutOfMemory|hipErrorMemoryAllocation"),
    _face("NCCL", r"(?:Cuda|HIP) failure \d* ?'out of memory'"),
    _face("cuBLAS", r"CUBLAS_STATUS_ALLOC_FAILED"),
    # No room for cuBLAS's handle and workspace on a full device: discuss.pytorch.org/t/125450. A bad index poisons the
    # context with the same words, but then a device-side assert stands beside them (see _NOT_MEMORY).
    _face("cuBLAS", r"CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate"),
    _face("hipBLAS", r"HIPBLAS_STATUS_ALLOC_FAILED|rocblas_status_memory_error"),
    _face("cuSOLVER", r"CUSOLVER_STATUS_ALLOC_FAILED"),
    _face("cuSPARSE", r"CUSPARSE_STATUS_(?:ALLOC_FAILED|INSUFFICIENT_RESOURCES)"),
    _face("cuFFT", r"CUFFT_ALLOC_FAILED"),
    _face("cuDNN", r"CUDNN_STATUS_(?:ALLOC_FAILED|INTERNAL_ERROR_(?:HOST|DEVICE)_ALLOCATION_FAILED)"),
    _face("cuDNN", r"(?i:cudnn)[^\n]{0,200}not enough memory"),
    _face("MIOpen", r"miopenStatusAllocFailed"),
    # Unified Runtime's words, and SYCL's older Plugin Interface. pytorch/pytorch#177714: XPU raises these as a plain
    # RuntimeError; open-edge-platform/physical-ai-studio#440: or dies of an uncaught sycl::exception with them.
    _face("XPU runtime", r"(?:UR_RESULT|PI|ZE_RESULT)_ERROR_OUT_OF_(?:DEVICE_MEMORY|HOST_MEMORY|RESOURCES)"),
    _face("MPS allocator", r"MPS backend out of memory"),
    _face("MPS allocator", r"kIOGPUCommandBufferCallbackErrorOutOfMemory"),
    # Metal's limit for one buffer, below the device's memory.
    _face("MPS allocator", r"Invalid buffer size: [\d.]+ [KMGT]?i?B"),
    _face("CPU allocator", r"DefaultCPUAllocator: (?:can't allocate memory|not enough memory)"),
    _face("CPU allocator", r"not enough memory: you tried to allocate"),
    _face("NumPy", r"Unable to allocate [\d.]+ \S+ for an array"),
    # What C++ says of it: libstdc++, then Microsoft's library.
    _face("C++ allocator", r"std::bad_alloc|\bbad allocation\b"),
    _face("Python", r"^MemoryError\b"),
    # Exact case: the loader's "cannot allocate memory in static TLS block" is about the order of imports.
    _face("operating system", r"Cannot allocate memory"),
    _face("OpenBLAS", r"OpenBLAS(?: error)? ?: Memory allocation still failed"),
    _face("GNU OpenMP", r"libgomp: Out of memory"),
    _face("LLVM OpenMP", r"OMP: (?:Error|System error) #\d+: .*(?:[Oo]ut of memory|not enough memory)"),
    _face("MKL", r"MKL (?:FATAL )?ERROR: .*(?:[Nn]ot enough|[Ii]nsufficient|[Cc]annot allocate) memory"),
    # Other process limits cause the next four as well; under a ceiling it is a thread's stack that found no room.
    _face("thread creation", r"can't start new thread", under_ceiling_only=True),
    _face("thread creation", r"(?:^|what\(\):\s+)Resource temporarily unavailable", under_ceiling_only=True),
    _face("GNU OpenMP", r"libgomp: Thread creation failed", under_ceiling_only=True),
    # glibc, when a new thread's storage does not fit: seen under a ceiling within a few MB of what was held.
    _face("thread-local storage", r"cannot allocate memory for thread-local data"),
    _face("OpenBLAS", r"OpenBLAS blas_thread_init: pthread_create failed", under_ceiling_only=True),
    # Seen at the edge of a ceiling: libraries that are first imported within a step …
    _face("loader", r"failed to map segment from shared object|cannot map zero-fill pages", under_ceiling_only=True),
    # … and CPython 3.11 and 3.12, which lose the MemoryError of an import or of a compiled regular expression.
    _face("Python", r"error return without exception set", under_ceiling_only=True),
    _face("Python", r"returned NULL without setting an exception", under_ceiling_only=True),
    # oneDNN turns its status out_of_memory into these (uxlfoundation/oneDNN#914), and an unsupported shape too.
    _face("oneDNN", r"could not (?:create|execute) a primitive|could not create a memory", under_ceiling_only=True),
)
_NOT_MEMORY = re.compile(r"device-side assert")
_LAST_WORDS = 2000
"""Characters of a traceback or of stderr that are kept."""
_SHOWN = 300
"""Characters of an out-of-memory message that are shown."""
_WINDOWS_MEMORY_STATUS = {0xC0000017: "STATUS_NO_MEMORY", 0xC000012D: "STATUS_COMMITMENT_LIMIT"}
_WINDOWS_MEMORY_ERRORS = (8, 14, 1450, 1455)
"""ERROR_NOT_ENOUGH_MEMORY, ERROR_OUTOFMEMORY, ERROR_NO_SYSTEM_RESOURCES, ERROR_COMMITMENT_LIMIT."""


def classify(error: BaseException, *, ceiling: bool = True) -> tuple[Status, str]:
    """What `error`, raised in the worker, says of a configuration: a status, and a line to show.

    Wrapped and chained exceptions are looked through (`torch.utils.checkpoint` and autograd wrap). `ceiling` says
    whether the process ran under one. The result holds no reference to `error`, whose frames keep tensors alive
    (pytorch/pytorch#18853): let go of it before the next probe.

    Raises:
        KeyboardInterrupt, SystemExit, GeneratorExit: `error` itself; an interrupt always escapes.
        InputError: `error` itself; it says what the user is to change, and no configuration is to blame.
    """
    if not isinstance(error, Exception) or isinstance(error, InputError):
        raise error
    for link in _chain(error):
        sign = _memory_sign(link, ceiling=ceiling)
        if sign:
            return Status.OUT_OF_MEMORY, sign
    if isinstance(error, NonFiniteLoss):
        return Status.INVALID, ", ".join([str(error), *getattr(error, "__notes__", ())])
    lines = "".join(traceback.format_exception(type(error), error, _theirs(error.__traceback__))).rstrip()
    return Status.INVALID, _tail(lines)


def classify_exit(returncode: int, stderr_tail: str, *, ceiling: bool) -> tuple[Status, str]:
    """What the death of a worker says of the configuration it was probing.

    Args:
        returncode: As `subprocess` gives it: negative for a signal. A shell's 128 + signal is understood too.
        stderr_tail: The end of what the worker wrote on its standard error since this probe began: what an earlier
            probe of the same worker left there would be taken for this one's.
        ceiling: Whether it ran under a memory ceiling.
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
    last = _EXTENSIONS.sub("", stderr_tail).strip()
    return Status.CRASHED, f"{how}: {_tail(last)}" if last else f"{how} and said nothing"


def _theirs(frames: TracebackType | None) -> TracebackType | None:
    """`frames` from where they leave Compass: whoever wrote the workload looks for their own lines."""
    left = frames
    while left is not None and left.tb_frame.f_code.co_filename.startswith(_OURS):
        left = left.tb_next
    return left or frames


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error`, what it was raised from or while handling, and the members of groups: each once."""
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
    """What shows that `error` is an out-of-memory, or None. Only types that the libraries raise are read for signs."""
    if isinstance(error, RuntimeError | MemoryError | OSError | ImportError | SystemError):
        sign = _find(str(error), ceiling=ceiling)
        if sign:
            return sign
    torch = sys.modules.get("torch")  # where torch is not loaded, nothing of torch was raised
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
    """The last sign of out-of-memory in `text`: the face's name, and its line from there on."""
    if _NOT_MEMORY.search(text):
        return None
    for line in reversed(text.splitlines()):
        for face in FACES:
            match = face.pattern.search(line) if ceiling or not face.under_ceiling_only else None
            if match:
                return f"{face.name}: {line[match.start() :].strip()[:_SHOWN]}"
    return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:_SHOWN]


def _tail(text: str) -> str:
    return text if len(text) <= _LAST_WORDS else "…" + text[-_LAST_WORDS:]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
