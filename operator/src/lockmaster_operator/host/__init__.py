"""The thin host: it watches, reads, acts as the plan says, and decides nothing.

    kopf's watches → queue of keys → worker: observe → plan → status, if changed → steps → events → again later

Laws: everything is read in the pass itself, uncached; every call has a deadline; before the one disruptive step all is
read and planned again; nothing is remembered between passes but connections.
"""
