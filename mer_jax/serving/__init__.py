"""A finished run over HTTP: uploads, batches for the device, and the routes."""
