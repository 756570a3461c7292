"""``python -m hy3dgen``: doctor, weights and report."""

import sys

from hy3dgen.cli.module import main

if __name__ == "__main__":
    sys.exit(main())
