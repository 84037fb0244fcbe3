"""One file describes an HTC-Grid."""
