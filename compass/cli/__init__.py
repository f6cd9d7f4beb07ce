"""The command line: parse → call → print. Each command imports what it needs when it runs, so that help is quick."""

from compass.cli.app import app
from compass.cli.streams import prepare_streams


def main() -> None:
    """Run the `compass` command."""
    prepare_streams()
    app()
