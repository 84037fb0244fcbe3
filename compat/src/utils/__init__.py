"""The helper package of the first HTC-Grid: what its client programs import of it."""
