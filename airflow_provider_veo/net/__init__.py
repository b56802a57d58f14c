"""What both HTTP clients share: address checks, proxies, deadlines.

Nothing is imported here, so that a DAG file loads no HTTP client and a triggerer only its own.
"""
