"""The model server: codecs, batching, routing and the prediction log's writer."""
