"""Topics of MQTT brokers as sources of rows."""
