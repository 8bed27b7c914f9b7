"""The control database's own audit log, the archived logs of erased tenants, and the anchors of all logs."""
