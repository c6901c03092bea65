"""The custom resources of group lockmaster.dev, typed. `crd.py` makes the chart's CRDs of them."""
