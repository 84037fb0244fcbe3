"""Requests to DynamoDB, SQS and S3, with a circuit breaker for each service."""
