"""Write what is made from the code, pages and monitoring files: `python -m drainproxy.tools.docs`."""

from pathlib import Path

from drainproxy.tools.docs import pages
from drainproxy.tools.monitoring import files

ROOT = Path(__file__).parents[3]

pages.write(ROOT / "docs")
files.write(ROOT / "deploy" / "monitoring")
