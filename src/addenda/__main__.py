"""`python -m addenda` is the command line."""

from addenda.cli import main

if __name__ == "__main__":
    main()
