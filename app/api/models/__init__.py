"""Pydantic models of request and response bodies, in Immich's JSON formats (v3 names). No behaviour except conversion from and to
catalogue records.

The class docstrings are part of the published OpenAPI description.
"""
