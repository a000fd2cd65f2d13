"""Checks the libraries that decode pictures: versions, supported formats, and known vulnerabilities."""

from __future__ import annotations

import importlib
import importlib.metadata
import re

from app.doctor.findings import ReportSection

_PILLOW = (13, 0)
_VULNERABILITIES = {
    "libheif": ((1, 18, 0), "CVE-2024-41311"),
    "libwebp": ((1, 3, 2), "CVE-2023-4863"),
}
"""By library: the version in which the vulnerability is fixed, and its name."""


def check_codecs(section: ReportSection) -> None:
    """Imports the libraries, which takes a moment: call it in a thread."""
    from PIL import __version__ as pillow_version  # noqa: PLC0415 - slow to import
    from PIL import features  # noqa: PLC0415

    if parse_version(pillow_version) < _PILLOW:
        section.fail("Pillow", pillow_version, "13.0 or newer is needed: older ones have known vulnerabilities")
    else:
        section.ok("Pillow", pillow_version)
    turbo = features.version_feature("libjpeg_turbo")
    if turbo:
        section.ok("libjpeg", f"libjpeg-turbo {turbo}")
    else:
        section.warn(
            "libjpeg", "is not libjpeg-turbo", "Pillow's own wheels have it: photos take twice as long without"
        )
    for check, feature in (("libwebp", "webp"), ("libavif", "avif")):
        version = features.version(feature)
        if version is None:
            section.fail(check, "is not in this Pillow", "install Pillow's own wheel")
        else:
            _report_version(section, check, str(version))
    _check_heif(section)
    for check, package, what in (
        ("metadata", "exiv2", "dates, cameras and positions are not read"),
        ("JPEG XL", "pillow-jxl-plugin", "photos in JPEG XL get no pictures"),
        ("camera RAW", "rawpy", "camera RAW gets no pictures but those inside it"),
    ):
        try:
            section.ok(check, f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            section.warn(check, f"{package} is not installed: {what}", "pip install mediavault[formats]")


def _check_heif(section: ReportSection) -> None:
    try:
        heif = importlib.import_module("pillow_heif")
        version, decoders = str(heif.libheif_version()), dict(heif.libheif_info()).get("decoders", {})
    except (ImportError, AttributeError, OSError) as error:
        section.fail("libheif", f"cannot be loaded: {type(error).__name__}", "pip install pillow-heif")
        return
    if not decoders:
        section.fail(
            "libheif", f"{version} has no decoder: photos of iPhones get no pictures", "install pillow-heif's own wheel"
        )
    else:
        _report_version(section, "libheif", version, f"{version}, {', '.join(map(str, decoders.values()))}")


def _report_version(section: ReportSection, check: str, version: str, detail: str = "") -> None:
    if fault := find_vulnerability(check, version):
        section.warn(check, f"{version}: {fault}", "install a newer one; files are opened in a sandbox meanwhile")
    else:
        section.ok(check, detail or version)


def find_vulnerability(library: str, version: str) -> str:
    """A known vulnerability of this version and the version that fixes it, or ""."""
    fixed, name = _VULNERABILITIES.get(library, ((), ""))
    if not fixed or parse_version(version) >= fixed:
        return ""
    return f"{name}, fixed in {'.'.join(map(str, fixed))}"


def parse_version(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0].partition("-")[0]))
