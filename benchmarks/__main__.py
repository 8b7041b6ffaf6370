"""`python -m benchmarks`: the same as `python -m benchmarks.speed`, which is the one benchmark there is."""

from benchmarks.speed import main

if __name__ == "__main__":
    raise SystemExit(main())
