"""The source files of modules that PyTorch Geometric generates: it writes them to the folder for temporary files, and leaves them.

A process that builds a ViSNet writes three. Once the module is loaded, nothing reads its file.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path


def delete_generated_files() -> None:
    """Delete the files of generated modules that this process has loaded: `MODULE_RANDOM.py` among the temporary files."""
    folder = tempfile.gettempdir()
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "none")
        if str(file.parent) == folder and file.name.startswith(f"{name}_"):
            with suppress(OSError):
                file.unlink(missing_ok=True)
