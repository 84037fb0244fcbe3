"""Requests to DynamoDB, SQS and S3, with a circuit breaker in front of each service."""
