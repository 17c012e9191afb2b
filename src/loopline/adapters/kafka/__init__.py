"""Topics of Apache Kafka as sources of rows."""
