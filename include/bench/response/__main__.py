"""``python -m include.bench.response``."""

import sys

from include.bench.response.measured import main

if __name__ == "__main__":
    sys.exit(main())
