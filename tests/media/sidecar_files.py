"""XMP sidecars for tests."""

from __future__ import annotations


def make_sidecar(rating: int = 4, description: str = "of the sidecar", *, taken: str = "") -> bytes:
    date = f' xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:DateTimeOriginal="{taken}"' if taken else ""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/" xmp:Rating="{rating}"{date}><dc:description><rdf:Alt>'
        f'<rdf:li xml:lang="x-default">{description}</rdf:li></rdf:Alt></dc:description>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()
