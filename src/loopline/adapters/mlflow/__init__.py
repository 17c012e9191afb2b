"""MLflow: its folders of runs, and its servers."""
