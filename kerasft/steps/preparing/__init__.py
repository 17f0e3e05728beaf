"""Before training: data, backbone, head, batches, devices."""
