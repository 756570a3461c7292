"""The REST API: python api_server.py, then see docs/rest-api.md"""

import sys

from hy3dgen.cli.api_server import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
