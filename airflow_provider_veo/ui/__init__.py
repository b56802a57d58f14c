"""The page *Veo videos* in Airflow's UI: what was made, to look at. It reads what tasks leave, and writes nothing."""
