"""Restoring for a browser and for other programs: a page, a REST interface, and a queue with one worker a device.

Photographs come as uploads, are read by the reader that the commands use, and stay in memory; a result is forgotten
when it has been fetched. FastAPI and uvicorn (extra `serve`) are imported by `restore.serving.app` and `server` alone.
"""

from restore.serving.desk import BusyError, Desk, Limits, Order, State
from restore.serving.offers import Offer, list_offers

__all__ = ["BusyError", "Desk", "Limits", "Offer", "Order", "State", "list_offers"]
