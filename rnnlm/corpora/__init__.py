"""Public texts by name: a table of them (`table`), fetched, verified and cached (`fetch`)."""
