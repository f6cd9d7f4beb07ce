"""The familiar entry point: `python scripts/hardware_optimizer.py …` is `compass optimize …`."""

import sys

from compass.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "optimize")
    main()
