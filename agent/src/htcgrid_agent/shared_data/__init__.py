"""Data that many tasks share: a reference in an event becomes the path of a read-only file, fetched once per node."""
