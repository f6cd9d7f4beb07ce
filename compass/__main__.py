"""`python -m compass` is `compass`."""

from compass.cli import main

if __name__ == "__main__":
    main()
