"""Export and import of all rows of the catalogue. The files that hold the rows are written by `app.migration.backups`."""
