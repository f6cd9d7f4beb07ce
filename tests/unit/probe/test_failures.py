import errno
import signal
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest

from compass.errors import InputError, NonFiniteLoss
from compass.probe.failures import MEMORY_SIGNS, classify, classify_exit
from compass.records import Outcome, Status

# Every message as the library writes it; (face, message).
ANYWHERE = [
    (
        "device allocator",
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which 1.05 GiB is "
        "free. Including non-PyTorch memory, this process has 14.71 GiB memory in use.",
    ),
    ("device allocator", "HIP out of memory. Tried to allocate 512.00 MiB. GPU 0 has a total capacity of 15.98 GiB"),
    ("device allocator", "XPU out of memory. Tried to allocate 64.00 GiB. GPU 0 has a total capacity of 64.00 GiB"),
    (
        "device driver",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    ),
    ("device driver", "CUDA driver error: out of memory"),
    ("device driver", "HIP error: out of memory\nHIP kernel errors might be asynchronously reported"),
    ("device driver", "cuda runtime error (2) : out of memory at /pytorch/aten/src/THC/THCGeneral.cpp:50"),
    ("device driver", "hipErrorOutOfMemory: out of memory"),
    ("NCCL", "NCCL error in: ProcessGroupNCCL.cpp, unhandled cuda error. Last error:\nCuda failure 2 'out of memory'"),
    ("cuBLAS", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ("cuBLAS", "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    ("hipBLAS", "CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`"),
    ("hipBLAS", "rocblas_status_memory_error"),
    ("cuSOLVER", "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
    ("cuSPARSE", "CUDA error: CUSPARSE_STATUS_INSUFFICIENT_RESOURCES when calling `cusparseSpMM(handle)`"),
    ("cuFFT", "cuFFT error: CUFFT_ALLOC_FAILED"),
    ("cuDNN", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ("cuDNN", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ("cuDNN", "cuDNN error: not enough memory for the workspace"),
    ("MIOpen", "miopenStatusAllocFailed"),
    ("XPU runtime", "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
    ("XPU runtime", "UR backend failed. UR backend returns:40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)"),
    ("XPU runtime", "Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES) -5"),
    (
        "MPS allocator",
        "MPS backend out of memory (MPS allocated: 8.85 GiB, other allocations: 7.97 MiB, max allowed: 9.07 GiB).",
    ),
    (
        "MPS allocator",
        "Command buffer exited with error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
    ),
    ("MPS allocator", "Invalid buffer size: 36.00 GiB"),
    (
        "CPU allocator",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
        "1048576 bytes. Error code 12 (Cannot allocate memory)",
    ),
    (
        "CPU allocator",
        "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 4096 bytes.",
    ),
    ("C++ allocator", "std::bad_alloc"),
    ("C++ allocator", "bad allocation"),
    ("operating system", "unable to mmap 8192 bytes from file </torch_1>: Cannot allocate memory (12)"),
]
UNDER_A_CEILING = [
    ("thread creation", "can't start new thread"),
    ("thread creation", "Resource temporarily unavailable"),
    ("loader", "libtorch_cpu.so: failed to map segment from shared object"),
    ("loader", "numpy/random/_bounded_integers.so: cannot map zero-fill pages"),
    ("oneDNN", "could not create a primitive"),
    ("oneDNN", "could not execute a primitive"),
]
LAST_WORDS = [
    ("C++ allocator", "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n"),
    (
        "XPU runtime",
        "terminate called after throwing an instance of 'sycl::_V1::exception'\n  what():  Enqueue process failed.\n"
        "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)\nFatal Python error: Aborted\n",
    ),
    ("OpenBLAS", "OpenBLAS error: Memory allocation still failed after 10 retries, giving up.\n"),
    ("OpenBLAS", "OpenBLAS : Memory allocation still failed after 10 attempts, giving up.\n"),
    ("GNU OpenMP", "\nlibgomp: Out of memory allocating 4096 bytes\n"),
    ("thread-local storage", "cannot allocate memory for thread-local data: ABORT\n"),
    ("LLVM OpenMP", "OMP: Error #34: System unable to allocate necessary resources: not enough memory\n"),
    ("MKL", "Intel MKL FATAL ERROR: Not enough memory\n"),
    ("Python", 'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nMemoryError\n'),
]
LAST_WORDS_UNDER_A_CEILING = [
    ("GNU OpenMP", "\nlibgomp: Thread creation failed: Resource temporarily unavailable\n"),
    (
        "OpenBLAS",
        "OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2: Resource temporarily unavailable\n",
    ),
    ("thread creation", "terminate called …\n  what():  Resource temporarily unavailable\n"),
]


@pytest.mark.parametrize(("face", "message"), ANYWHERE)
@pytest.mark.parametrize("ceiling", [True, False])
def test_a_memory_message_is_out_of_memory(face, message, ceiling):
    status, detail = classify(RuntimeError(message), ceiling=ceiling)
    assert status is Status.OUT_OF_MEMORY
    assert detail.startswith(f"{face}: ")
    assert "\n" not in detail


@pytest.mark.parametrize(("face", "message"), UNDER_A_CEILING)
def test_some_messages_are_about_memory_only_under_a_ceiling(face, message):
    kind = ImportError if face == "loader" else RuntimeError
    assert classify(kind(message), ceiling=True) == (Status.OUT_OF_MEMORY, f"{face}: {message.split('.so: ')[-1]}")
    assert classify(kind(message), ceiling=False)[0] is Status.INVALID


@pytest.mark.parametrize(
    "message", ["error return without exception set", "<class 'X'> returned NULL without setting an exception"]
)
def test_cpython_loses_a_memory_error_under_a_ceiling(message):
    assert classify(SystemError(message), ceiling=True)[0] is Status.OUT_OF_MEMORY
    assert classify(SystemError(message), ceiling=False)[0] is Status.INVALID


@pytest.mark.parametrize("ceiling", [True, False])
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("std::bad_alloc"),
        np._core._exceptions._ArrayMemoryError((1200, 1200), np.dtype("f8")),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError(errno.ENOMEM, "said in another language"),
    ],
)
def test_a_memory_error_by_type(error, ceiling):
    assert classify(error, ceiling=ceiling)[0] is Status.OUT_OF_MEMORY


def test_the_numpy_face_is_named():
    error = np._core._exceptions._ArrayMemoryError((1200, 1200), np.dtype("f8"))
    assert classify(error) == (Status.OUT_OF_MEMORY, f"NumPy: {error}")


def test_torchs_own_type_counts_whatever_it_says(monkeypatch):
    class OutOfMemoryError(RuntimeError):
        pass

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError))
    assert classify(OutOfMemoryError("words of a future version")) == (
        Status.OUT_OF_MEMORY,
        "device allocator: words of a future version",
    )


def test_windows_paging_file_too_small():
    error = OSError("[WinError 1455] The paging file is too small for this operation to complete")
    error.winerror = 1455
    assert classify(error)[0] is Status.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory"),  # the user's own words, of a type no library raises for it
        KeyError("CUDA out of memory"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError(
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`\ndevice-side assert"
        ),
        RuntimeError("CUDA error: too many resources requested for launch"),
        RuntimeError("out of resource: shared memory, Required: 132096, Hardware limit: 101376"),
        ImportError("libgomp.so.1: cannot allocate memory in static TLS block"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        RuntimeError("level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)"),
    ],
)
def test_what_is_not_about_memory_is_invalid(error):
    assert classify(error)[0] is Status.INVALID


@pytest.mark.parametrize("how", ["cause", "context", "suppressed", "group", "deep"])
def test_wrapped_exceptions_are_looked_through(how):
    memory = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    outer = RuntimeError("checkpointed function failed")
    if how == "cause":
        outer.__cause__ = memory
    elif how in {"context", "suppressed"}:
        outer.__context__ = memory
        outer.__suppress_context__ = how == "suppressed"
    elif how == "group":
        outer = ExceptionGroup("workers", [ValueError("x"), memory])
    else:
        middle = ValueError("y")
        middle.__context__ = memory
        outer.__cause__ = middle
    assert classify(outer) == (
        Status.OUT_OF_MEMORY,
        "device allocator: CUDA out of memory. Tried to allocate 2.00 GiB.",
    )


def test_a_circle_of_causes_ends():
    one, two = RuntimeError("one"), RuntimeError("two")
    one.__cause__, two.__cause__ = two, one
    assert classify(one)[0] is Status.INVALID


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_an_interrupt_escapes(interrupt):
    with pytest.raises(type(interrupt)) as caught:
        classify(interrupt)
    assert caught.value is interrupt


@pytest.mark.parametrize(("loss", "shown"), [(float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "-inf")])
def test_a_non_finite_loss_is_invalid(loss, shown):
    error = NonFiniteLoss(loss)
    error.add_note("at step 3")
    status, detail = classify(error)
    assert status is Status.INVALID
    assert shown in detail
    assert detail.endswith("at step 3")


def test_bad_input_is_no_outcome():
    error = InputError("memory limit", got="1.00 MiB", expected="more", fix="Raise it.")
    with pytest.raises(InputError) as caught:
        classify(error)
    assert caught.value is error


def test_a_code_error_shows_the_users_own_lines():
    def users_forward():
        raise TypeError("forward() takes 2 positional arguments")

    with pytest.raises(TypeError) as caught:
        users_forward()
    status, detail = classify(caught.value)
    assert status is Status.INVALID
    assert "in users_forward" in detail
    assert detail.endswith("TypeError: forward() takes 2 positional arguments")


def test_a_long_error_keeps_its_beginning_and_its_end():
    detail = classify(ValueError("why " + "x" * 5000 + "the end"))[1]
    assert len(detail) < 2001
    assert detail.startswith("ValueError: why x")
    assert detail.endswith("the end")


@pytest.mark.parametrize(("face", "words"), LAST_WORDS)
@pytest.mark.parametrize("ceiling", [True, False])
def test_last_words_about_memory(face, words, ceiling):
    status, detail = classify_exit(-signal.SIGABRT, f"something before\n{words}", ceiling=ceiling)
    assert status is Status.OUT_OF_MEMORY
    assert detail.startswith(f"{face}: ")


@pytest.mark.parametrize(("face", "words"), LAST_WORDS_UNDER_A_CEILING)
def test_last_words_about_memory_only_under_a_ceiling(face, words):
    status, detail = classify_exit(1, words, ceiling=True)
    assert (status, detail.partition(":")[0]) == (Status.OUT_OF_MEMORY, face)
    assert classify_exit(1, words, ceiling=False)[0] is Status.CRASHED


@pytest.mark.parametrize("returncode", [-9, 137])
@pytest.mark.parametrize("ceiling", [True, False])
def test_killed_by_the_kernel_is_out_of_memory(returncode, ceiling):
    assert classify_exit(returncode, "", ceiling=ceiling) == (
        Status.OUT_OF_MEMORY,
        "killed by the kernel (SIGKILL), as it does when memory runs out",
    )


@pytest.mark.parametrize(
    ("returncode", "stderr", "detail"),
    [
        (-signal.SIGSEGV, "", "died of SIGSEGV without any output"),
        (-signal.SIGABRT, "malloc(): invalid size (unsorted)\n", "died of SIGABRT: malloc(): invalid size (unsorted)"),
        (139, "", "died of SIGSEGV without any output"),
        (
            1,
            "ModuleNotFoundError: No module named 'x'\n",
            "ended with exit code 1: ModuleNotFoundError: No module named 'x'",
        ),
        (0, "", "ended with exit code 0 without any output"),
        (-99, "", "died of signal 99 without any output"),
    ],
)
def test_other_deaths_are_crashes(returncode, stderr, detail):
    assert classify_exit(returncode, stderr, ceiling=True) == (Status.CRASHED, detail)


@pytest.mark.parametrize("returncode", [0xC0000017, 0xC000012D, 0xC0000017 - 2**32])
def test_windows_out_of_memory_exit_codes(returncode):
    assert classify_exit(returncode, "", ceiling=False)[0] is Status.OUT_OF_MEMORY


def test_every_face_has_a_message_here():
    messages = [message for _, message in ANYWHERE + UNDER_A_CEILING + LAST_WORDS + LAST_WORDS_UNDER_A_CEILING]
    messages += ["error return without exception set", "returned NULL without setting an exception"]
    messages += [str(np._core._exceptions._ArrayMemoryError((2, 2), np.dtype("f8")))]
    lines = [line for message in messages for line in message.splitlines()]
    assert [sign for sign in MEMORY_SIGNS if not any(sign.pattern.search(line) for line in lines)] == []


# ------------------------------------------------------------------------------------------------ the real ones

UNDER_LIMIT = """
import resource, sys
from compass.device.process import process_memory
from compass.probe.failures import classify
{prepare}
allowed = process_memory().data_bytes + int({slack_mib} * 2**20)
resource.setrlimit(resource.RLIMIT_DATA, (allowed, resource.RLIM_INFINITY))
try:
    {work}
except Exception as error:
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)
    print(*classify(error), sep="|")
else:
    print("nothing happened")
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is enforced on Linux only")


def run_under_limit(work, *, slack_mib, prepare=""):
    code = UNDER_LIMIT.format(work=work, slack_mib=slack_mib, prepare=textwrap.dedent(prepare))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
@linux
@pytest.mark.parametrize(
    ("face", "prepare", "work", "slack_mib"),
    [
        ("Python", "", "bytearray(64 * 2**20)", 16),
        ("NumPy", "import numpy", "numpy.ones(64 * 2**20)", 16),
        ("thread creation", "import threading", "threading.Thread(target=print).start()", 1),
        ("CPU allocator", "import torch", "torch.ones(64 * 2**20)", 16),
    ],
)
def test_a_real_exception_under_a_real_limit(face, prepare, work, slack_mib):
    ended = run_under_limit(work, slack_mib=slack_mib, prepare=prepare)
    assert ended.returncode == 0, ended.stderr
    status, _, detail = ended.stdout.strip().partition("|")
    assert status == Status.OUT_OF_MEMORY
    assert detail.startswith(f"{face}: ")


@pytest.mark.slow
@linux
def test_openmp_really_gives_up_under_a_limit():
    prepare = """
        import torch
        torch.set_num_threads(8)
        x = torch.empty(4_000_000)
    """
    ended = run_under_limit("x.add_(1)", slack_mib=1, prepare=prepare)
    assert ended.returncode == 1
    status, detail = classify_exit(ended.returncode, ended.stderr, ceiling=True)
    assert status is Status.OUT_OF_MEMORY
    assert detail.startswith("GNU OpenMP: libgomp: Thread creation failed")


@linux
@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.4.6",
    reason="the OpenBLAS of NumPy 2.0 to 2.3 waits for ever at the ceiling; a probe then times out",
)
def test_openblas_really_gives_up_under_a_limit():
    prepare = "import numpy as np; a = np.ones((1200, 1200))"
    ended = run_under_limit("a @ a", slack_mib=16, prepare=prepare)
    assert ended.returncode == 1
    status, detail = classify_exit(ended.returncode, ended.stderr, ceiling=True)
    assert status is Status.OUT_OF_MEMORY
    assert detail.startswith("OpenBLAS")


def test_an_error_of_many_lines_keeps_its_first():
    def raises(depth):
        if depth:
            raises(depth - 1)
        raise NotImplementedError("Could not run 'aten::norm' on SparseCPU.\n" + "\n".join(["/kernel.cpp:9410"] * 900))

    with pytest.raises(NotImplementedError) as caught:
        raises(80)
    status, detail = classify(caught.value)
    assert status is Status.INVALID
    assert len(detail) < 2100
    said = Outcome(status=status, detail=detail).summary
    assert said.startswith(
        "invalid: NotImplementedError: Could not run 'aten::norm' on SparseCPU. (test_failures.py, line "
    )
