"""One picture to a coloured mesh: python color.py --input picture.png"""

import sys

from hy3dgen.cli.color import main
from hy3dgen.images.size import preprocess_image_size

__all__ = ["main", "preprocess_image_size"]

if __name__ == "__main__":
    sys.exit(main())
