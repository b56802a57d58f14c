"""What both HTTP clients share: address checks, proxies, deadlines.

This module imports nothing, so that a DAG file loads no HTTP client and a triggerer only its own.
"""
