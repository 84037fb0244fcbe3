"""A controller that has Kubernetes choose busy agents last when a pool shrinks.

A ReplicaSet that must end pods takes those with the lowest deletion cost first. Only the agents know who is busy, so
they are asked every few seconds, and the cost of each pod is kept in step.
"""
