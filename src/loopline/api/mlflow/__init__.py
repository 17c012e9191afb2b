"""MLflow's REST protocol, translated to the same verbs that everything else calls."""
