"""MQTT as bytes, without I/O."""
