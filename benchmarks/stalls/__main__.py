"""`python -m benchmarks.stalls`."""

import sys

from benchmarks.stalls.command import main

if __name__ == "__main__":
    sys.exit(main())
