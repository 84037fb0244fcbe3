"""What HTC-Grid runs beside its agents on Kubernetes: draining of nodes, and deletion costs of busy pods."""
