"""The page *Veo videos* in Airflow's UI. It reads what tasks have stored, and writes nothing."""
