"""The Kubernetes operator of Lockmaster: `plan(spec, observed, now) -> Plan` decides, a thin host acts (README.md)."""
