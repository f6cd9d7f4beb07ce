"""What a configuration will hold and how long its step will take, fitted to a few probes."""
