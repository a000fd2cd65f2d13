"""Takes over the installation of an Immich: reads its database and its folders, and never changes either."""
