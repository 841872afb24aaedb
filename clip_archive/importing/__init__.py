"""Moving what lies in folders, tables, tars and exports into an archive."""
