"""The web page: python gradio_app.py, then open the address that it prints (docs/web-page.md)"""

import sys

from hy3dgen.cli.gradio_app import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
