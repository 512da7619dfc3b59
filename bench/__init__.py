"""The side-by-side harness: what the gateway costs beside a plain aiohttp proxy that does nothing else.

Everything runs on loopback and ends by itself. Nothing of `gateway` is imported here: it is measured from outside,
through its command, its port and the operating system's accounting.
"""
