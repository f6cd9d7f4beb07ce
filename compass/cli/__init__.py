"""The command line: parse → call → print. Each command imports what it needs when it runs, so that help is quick."""

import sys

from compass.interrupts import take_interrupts


def main() -> None:
    """Run the `compass` command."""
    try:
        take_interrupts()
        from compass.cli.app import app
        from compass.cli.streams import prepare_streams

        prepare_streams()
        app()
    except KeyboardInterrupt:  # before a command could take it
        sys.stderr.write("interrupted\n")
        sys.exit(130)
