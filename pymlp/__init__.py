"""pymlp: train and run multilayer perceptrons on CPUs, fast and with the same bits every time."""

from pymlp.config import config_context, get_config, set_config
from pymlp.network import Dense, Network

__version__ = "0.1.0"
__all__ = ["Dense", "Network", "config_context", "get_config", "set_config"]
