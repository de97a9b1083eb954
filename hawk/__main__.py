"""`python -m hawk` is the command `hawk`."""

import sys

from hawk.cli import main

if __name__ == "__main__":
    sys.exit(main())
