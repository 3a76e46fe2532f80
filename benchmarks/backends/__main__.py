"""`python -m benchmarks.backends`."""

from benchmarks.backends.faults import main

if __name__ == "__main__":
    main()
