"""The control plane of HTC-Grid: pure rules, and the storage code that encodes them as conditions."""
