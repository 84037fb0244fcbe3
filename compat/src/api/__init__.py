"""The import path of the first HTC-Grid's client: `from api.connector import AWSConnector`."""
