"""What is in an image? A software bill of materials (CycloneDX) of its root file system: Debian and Python packages."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.parser import HeaderParser
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot5
from packageurl import PackageURL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME = re.compile(r"[-_.]+")


def image_sbom(root: Path, version: str, when: int) -> str:
    """The bill as JSON: the same for the same image. `when`: seconds since the epoch."""
    image = Component(name="drainproxy", version=version, type=ComponentType.CONTAINER, bom_ref="drainproxy")
    bom = Bom(serial_number=uuid5(NAMESPACE_URL, f"drainproxy:{version}:{when}"))
    bom.metadata.component = image
    bom.metadata.timestamp = datetime.fromtimestamp(when, UTC)
    for url in sorted({*_debian(root), *_python(root)}, key=str):
        bom.components.add(Component(name=url.name, version=url.version, purl=url, bom_ref=str(url)))
    bom.register_dependency(image, bom.components)
    return str(JsonV1Dot5(bom).output_as_string(indent=2)) + "\n"


def _debian(root: Path) -> Iterator[PackageURL]:
    """dpkg's list; minimal images keep a file for each package instead of one for all."""
    dpkg = root / "var/lib/dpkg"
    files = [dpkg / "status", *(dpkg / "status.d").glob("*")]
    for file in files:
        if not file.is_file():
            continue
        for paragraph in file.read_text(errors="replace").split("\n\n"):
            fields = HeaderParser().parsestr(paragraph.lstrip())
            if fields["Package"] and fields["Version"]:
                where = {"arch": fields["Architecture"]} if fields["Architecture"] else None
                yield PackageURL("deb", "debian", fields["Package"], fields["Version"], where)


def _python(root: Path) -> Iterator[PackageURL]:
    for metadata in root.glob("**/*.dist-info/METADATA"):
        fields = HeaderParser().parsestr(metadata.read_text(errors="replace"))
        yield PackageURL("pypi", None, _NAME.sub("-", fields["Name"]).lower(), fields["Version"])
