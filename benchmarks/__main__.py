"""`python -m benchmarks`: the same as `python -m benchmarks.speed`; `python -m benchmarks.memorize` is the other one."""

from benchmarks.speed import main

if __name__ == "__main__":
    raise SystemExit(main())
