"""On the path of Airflow's processes: a warning about this package's code is an error. Those about other code stay."""

import warnings

# PYTHONWARNINGS can name a module, but not a package.
warnings.filterwarnings("error", module=r"airflow_provider_veo(\.|$)")
