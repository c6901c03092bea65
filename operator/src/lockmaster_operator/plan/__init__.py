"""What the operator will do next: `plan(spec, observed, now) -> Plan`. Pure and total."""
