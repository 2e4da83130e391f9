"""``make demo``: a whole Airflow on loopback, run against the simulators. Nothing here is needed in production."""
