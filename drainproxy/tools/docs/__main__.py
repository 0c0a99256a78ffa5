"""Write the pages that are made from the code: `python -m drainproxy.tools.docs [FOLDER]`."""

import sys
from pathlib import Path

from drainproxy.tools.docs.pages import write

write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[3] / "docs")
