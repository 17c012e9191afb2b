"""AWS Glue: tables of its Data Catalog, as a source."""
