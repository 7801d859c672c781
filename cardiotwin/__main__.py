"""``python -m cardiotwin``."""

import sys

from cardiotwin.cli import main

if __name__ == "__main__":
    sys.exit(main())
