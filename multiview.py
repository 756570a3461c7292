"""Several pictures of one object to a coloured mesh: python multiview.py --front front.png --left left.png"""

import sys

from hy3dgen.cli.multiview import main
from hy3dgen.images.size import preprocess_image_size

__all__ = ["main", "preprocess_image_size"]

if __name__ == "__main__":
    sys.exit(main())
