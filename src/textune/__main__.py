"""`python -m textune` is the same as `textune`."""

from textune.cli import main

if __name__ == "__main__":
    main()
