"""MLflow's wire protocol, spoken to ``mlflow server`` and to ``noria up`` by the same client in one run."""
