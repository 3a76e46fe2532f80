"""`python -m warpspan`: the command line, where its script is not on PATH."""

from warpspan.cli import main

if __name__ == "__main__":
    main()
