"""Write what is made from the code (pages, monitoring files), and the lists of sections on long pages: `make docs`."""

from pathlib import Path

from drainproxy.tools.docs import contents, pages
from drainproxy.tools.monitoring import files

ROOT = Path(__file__).parents[3]

pages.write(ROOT / "docs")
contents.write(ROOT / "docs")
files.write(ROOT / "deploy" / "monitoring")
