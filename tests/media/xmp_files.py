"""Makes XMP packets."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

NAMESPACES = {
    "exif": "http://ns.adobe.com/exif/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
}


def make_xmp(properties: Mapping[str, str], *, description: str | None = None, declaration: str = "") -> bytes:
    """An XMP file in UTF-8. `properties` by name with prefix; `description` as `dc:description`, in two languages."""
    namespaces = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
    attributes = " ".join(f"{name}={quoteattr(value)}" for name, value in properties.items())
    texts = f'<rdf:li xml:lang="de">Anders</rdf:li><rdf:li xml:lang="x-default">{description}</rdf:li>'
    element = "" if description is None else f"<dc:description><rdf:Alt>{texts}</rdf:Alt></dc:description>"
    return (
        f'{declaration}<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {namespaces} xmlns:dc="http://purl.org/dc/elements/1.1/" {attributes}>{element}'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()
