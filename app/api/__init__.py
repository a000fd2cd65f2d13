"""The HTTP interface: server protocol, authentication, delivery of files, and the JSON API in Immich's shapes."""
