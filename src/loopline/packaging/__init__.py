"""Forms of a model: ONNX, parity with the native form, bundles, signatures."""
