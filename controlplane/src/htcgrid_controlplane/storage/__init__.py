"""The DynamoDB tables: every read and every conditional write."""
